// Owns: the claims about CacheFile::verify() and bytes_of(), and about folders in which there is no
// entry to be had.
// Runs on the test's thread.
// Must not: need O_DIRECT.
#include "test/cache_fixture.h"
#include "test/check.h"

using namespace unbd;
using unbd::store::CacheFile;
using unbd::store::CacheFileSpec;
using unbd::test::CacheEntry;
using unbd::test::flip;
using unbd::test::keep_units;

namespace {

constexpr uint32_t kKib = 1024;
constexpr uint32_t kMib = 1024 * 1024;

}  // namespace

TEST("verify drops the damaged units, exactly, and for good") {
  for (uint32_t chunk_bytes : {64 * kKib, kMib, 16 * kMib}) {
    const CacheEntry entry(2 * uint64_t{chunk_bytes} + 1536, chunk_bytes);
    const uint64_t unit_bytes = entry.open()->unit_bytes();
    keep_units(*entry.open(), 0, 0x1f);
    keep_units(*entry.open(), 1, 0x8001);
    keep_units(*entry.open(), 2, 1);
    flip(entry.data(), unit_bytes);                        // its first byte
    flip(entry.data(), 5 * unit_bytes - 1);                // its last one
    flip(entry.data(), 2 * uint64_t{chunk_bytes} + 2000);  // behind the object, yet summed
    flip(entry.data(), 6 * unit_bytes);                    // of nobody
    const CacheEntry::Verified verified = entry.verify();
    CHECK(verified.checked_bytes == 7 * unit_bytes + 1536);
    CHECK(verified.dropped_bytes == 2 * unit_bytes + 1536);
    CHECK(verified.kept_bytes == 5 * unit_bytes);
    const std::shared_ptr<CacheFile> file = entry.open();
    CHECK(file->chunks_found() == std::vector<uint32_t>({0, 1}));
    CHECK(file->record(0).present == 0xd && file->record(1).present == 0x8001);
    CHECK(file->cached_bytes() == 5 * unit_bytes);
  }
}

TEST("what the data file does not give is as lost as what it gives wrong") {
  const CacheEntry entry(4 * 64 * kKib, 64 * kKib);
  const std::shared_ptr<CacheFile> file = entry.open();
  keep_units(*file, 0, 0xffff);
  keep_units(*file, 2, 0xf);
  CHECK(::truncate(entry.data().c_str(), 10 * kKib) == 0);
  uint64_t checked = 0;
  uint64_t dropped = 0;
  for (uint32_t chunk = 0; chunk < 4; ++chunk)
    CHECK(file->verify(chunk, &checked, &dropped) == 0);
  CHECK(checked == 80 * kKib && dropped == 72 * kKib);
  CHECK(file->record(0).present == 3 && file->record(2).present == 0);
}

TEST("the bytes of units end with the object") {
  for (uint32_t chunk_bytes : {64 * kKib, kMib, 16 * kMib}) {
    const uint64_t unit = std::max(4 * kKib, chunk_bytes / 64);
    const unsigned units = static_cast<unsigned>(chunk_bytes / unit);
    for (const uint64_t rest : {uint64_t{512}, uint64_t{1536}, unit - 512, unit, 3 * unit + 1536,
                                chunk_bytes - unit + 512, uint64_t{chunk_bytes}}) {
      const CacheEntry entry(chunk_bytes + rest, chunk_bytes);
      const std::shared_ptr<CacheFile> file = entry.open();
      const unsigned last = static_cast<unsigned>((rest - 1) / unit);
      const uint64_t all = ~uint64_t{0} >> (63 - last);
      CHECK(file->chunks() == 2 && file->bytes_of(1, all) == rest);
      CHECK(file->bytes_of(1, uint64_t{1} << last) == rest - last * unit);
      CHECK(file->bytes_of(1, all >> 1) == last * unit && file->bytes_of(1, 0) == 0);
      CHECK(file->bytes_of(0, ~uint64_t{0} >> (64 - units)) == chunk_bytes);
      CHECK(file->bytes_of(0, uint64_t{1} << (units - 1)) == unit);
    }
  }
}

TEST("symbolic links are not followed, and a folder is not made") {
  const CacheEntry elsewhere(64 * kKib, 64 * kKib);
  unbd::test::write_file(elsewhere.data(), unbd::test::Bytes(100, std::byte{1}));
  std::shared_ptr<CacheFile> file;
  for (const char* name : {"map", "data"}) {
    const CacheEntry entry(64 * kKib, 64 * kKib);
    std::filesystem::create_symlink(elsewhere.data(), entry.spec().directory + "/" + name);
    CHECK(CacheFile::open(entry.spec(), &file) == -ELOOP && file == nullptr);
  }
  CHECK(std::filesystem::file_size(elsewhere.data()) == 100);
  CacheFileSpec spec = elsewhere.spec();
  spec.directory += "/none";
  CHECK(CacheFile::open(spec, &file) == -ENOENT && !std::filesystem::exists(spec.directory));
  std::filesystem::create_directory_symlink(elsewhere.spec().directory, spec.directory);
  CHECK(CacheFile::open(spec, &file) < 0);
  spec = elsewhere.spec();
  spec.directory = elsewhere.data();
  CHECK(CacheFile::open(spec, &file) == -ENOTDIR);
}

TEST("a spec is valid with sizes that a store takes, and a key of 64 digits") {
  const CacheFileSpec good{
      .directory = "/", .size_bytes = 512, .chunk_bytes = kMib, .key = std::string(64, '0')};
  CHECK(good.is_valid());
  std::vector<CacheFileSpec> bad(6, good);
  bad[0].size_bytes = 0;
  bad[1].size_bytes = 1000;
  bad[2].chunk_bytes = 0;
  bad[3].chunk_bytes = 32 * kMib;
  bad[4].chunk_bytes = 96 * kKib;
  bad[5].key.pop_back();
  for (const CacheFileSpec& spec : bad)
    CHECK(!spec.is_valid());
}

TEST_MAIN()
