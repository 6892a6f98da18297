// Owns: the claims about CacheFile: what of an entry is found again, and what of damaged files is
// not believed.
// Runs on the test's thread.
// Must not: need O_DIRECT, or more of the header than its place and its sum.
#include "store/cache_file.h"

#include <random>

#include "test/cache_fixture.h"
#include "test/check.h"

using namespace unbd;
using unbd::store::CacheFile;
using unbd::store::CacheFileSpec;
using unbd::test::Bytes;
using unbd::test::CacheEntry;
using unbd::test::flip;
using unbd::test::keep_units;
using unbd::test::UnitBytes;
using unbd::test::write_record;

namespace {

constexpr uint32_t kKib = 1024;
constexpr uint32_t kMib = 1024 * 1024;
constexpr size_t kHeaderSums = 88;  // the header's bytes that its sum, which follows them, is of

// Five chunks and a sixth of which there is only one unit, of 1536 bytes; units of 4 KiB.
CacheEntry small_entry() {
  return {5 * 64 * kKib + 1536, 64 * kKib};
}

bool is_empty(const CacheFile& file) {
  for (uint32_t chunk = 0; chunk < file.chunks(); ++chunk)
    if (file.record(chunk).present != 0) return false;
  return file.cached_bytes() == 0 && file.chunks_found().empty();
}

// Whether what is present of a chunk, and nothing else, has the object's sum.
bool has_sums(const CacheFile& file, uint32_t chunk) {
  for (unsigned unit = 0; unit < CacheFile::kUnitsPerChunk; ++unit) {
    if ((file.record(chunk).present >> unit & 1) == 0) continue;
    const UnitBytes bytes(file, chunk, unit);
    if (!file.is_sum_right(chunk, unit, bytes.data())) return false;
    bytes.data()[bytes.length - 1] ^= std::byte{0x80};
    if (file.is_sum_right(chunk, unit, bytes.data())) return false;
  }
  return true;
}

// By what cache_file.cc says about the sum of a record.
uint32_t check_of(uint32_t chunk, const CacheFile::Record& record) {
  uint32_t check = crc32c(&record.present, sizeof(record.present), crc32c(&chunk, sizeof(chunk)));
  for (unsigned unit = 0; unit < CacheFile::kUnitsPerChunk; ++unit)
    if ((record.present >> unit & 1) != 0)
      check = crc32c(&record.sums[unit], sizeof(uint32_t), check);
  return check;
}

// A file that was made anew promises nothing, and takes no place.
bool is_made_anew(const CacheEntry& entry, const CacheFileSpec& spec) {
  const auto finds_nothing = [&] { return is_empty(*entry.open(spec)); };
  return finds_nothing() && entry.data_bytes_on_disk() == 0 && finds_nothing();
}

}  // namespace

TEST("a new entry is empty and takes no place") {
  for (uint32_t chunk_bytes : {64 * kKib, kMib, 16 * kMib}) {
    const CacheEntry entry(5 * uint64_t{chunk_bytes} + 512, chunk_bytes);
    const std::shared_ptr<CacheFile> file = entry.open();
    CHECK(file->chunks() == 6 && file->unit_bytes() == std::max(4 * kKib, chunk_bytes / 64));
    CHECK(is_empty(*file) && entry.data_bytes_on_disk() == 0);
    CHECK(std::filesystem::file_size(entry.data()) == 6 * uint64_t{chunk_bytes});
    CHECK(std::filesystem::file_size(entry.map()) == 4096 + 6 * 512);
  }
}

TEST("what is kept is there after a new open, with its sums") {
  for (uint32_t chunk_bytes : {64 * kKib, kMib, 16 * kMib}) {
    const CacheEntry entry(5 * uint64_t{chunk_bytes} + 1536, chunk_bytes);
    const uint64_t last_unit = uint64_t{1} << (chunk_bytes == 64 * kKib ? 15 : 63);
    {
      const std::shared_ptr<CacheFile> file = entry.open();
      keep_units(*file, 4, last_unit | 1);
      keep_units(*file, 1, 0x16);
      keep_units(*file, 1, 0x20);
      keep_units(*file, 5, 1);
      CHECK(file->cached_bytes() == 6 * uint64_t{file->unit_bytes()} + 1536);
    }
    for (int round = 0; round < 2; ++round) {
      const std::shared_ptr<CacheFile> file = entry.open();
      CHECK(file->chunks_found() == std::vector<uint32_t>({1, 4, 5}));
      CHECK(file->record(1).present == 0x36 && file->record(4).present == (last_unit | 1));
      CHECK(file->record(5).present == 1 && file->record(0).present == 0);
      CHECK(has_sums(*file, 1) && has_sums(*file, 4) && has_sums(*file, 5));
      CHECK(file->cached_bytes() == 6 * uint64_t{file->unit_bytes()} + 1536);
    }
    CHECK(entry.verify().dropped_bytes == 0);
  }
}

TEST("what is dropped is not there after a new open") {
  const CacheEntry entry = small_entry();
  {
    const std::shared_ptr<CacheFile> file = entry.open();
    keep_units(*file, 0, 0xf);
    keep_units(*file, 5, 1);
    file->drop(0, 0xa);
    file->drop(5, ~uint64_t{0});
    CHECK(file->cached_bytes() == 8 * kKib);
    write_record(*file, 0, file->record(0));
    write_record(*file, 5, file->record(5));
  }
  const std::shared_ptr<CacheFile> file = entry.open();
  CHECK(file->chunks_found() == std::vector<uint32_t>({0}) && file->record(0).present == 0x5);
  CHECK(has_sums(*file, 0) && file->cached_bytes() == 8 * kKib);
}

TEST("a map of many chunks is found through its holes, and without holes") {
  const CacheEntry entry(100'000 * uint64_t{64 * kKib}, 64 * kKib);
  const std::vector<uint32_t> chunks = {0, 1, 7, 8, 31'111, 31'112, 65'000, 99'999};
  {
    const std::shared_ptr<CacheFile> file = entry.open();
    for (uint32_t chunk : chunks)
      keep_units(*file, chunk, 0x8001);
  }
  CHECK(entry.open()->chunks_found() == chunks);
  unbd::test::write_file(entry.map(), unbd::test::read_file(entry.map()));
  const std::shared_ptr<CacheFile> file = entry.open();
  CHECK(file->chunks_found() == chunks && file->cached_bytes() == 8 * 8 * kKib);
}

TEST("who has the entry has it alone") {
  const CacheEntry entry = small_entry();
  std::shared_ptr<CacheFile> file = entry.open();
  keep_units(*file, 0, 1);
  std::shared_ptr<CacheFile> second;
  CHECK(CacheFile::open(entry.spec(), &second) == -EAGAIN && second == nullptr);
  CacheFileSpec other = entry.spec();
  other.key[0] = 'b';
  CHECK(CacheFile::open(other, &second) == -EAGAIN && file->record(0).present == 1);
  file.reset();
  CHECK(CacheFile::open(entry.spec(), &second) == 0 && second->record(0).present == 1);
}

TEST("an entry of another object or geometry is emptied") {
  const CacheEntry entry = small_entry();
  std::vector<CacheFileSpec> others(4, entry.spec());
  others[0].key[63] = 'b';
  others[1].size_bytes += 512;  // the same number of chunks
  others[2].size_bytes += 64 * kKib;
  others[3].chunk_bytes *= 2;
  for (const CacheFileSpec& other : others) {
    keep_units(*entry.open(), 0, 1);
    keep_units(*entry.open(), 5, 1);
    CHECK(entry.open()->chunks_found().size() == 2);
    CHECK(is_made_anew(entry, other));
    CHECK(is_made_anew(entry, entry.spec()));
  }
}

TEST("a header that is damaged anywhere, or of another version, empties the entry") {
  const CacheEntry entry = small_entry();
  for (size_t at = 0; at < kHeaderSums + 4; ++at) {
    keep_units(*entry.open(), 2, 0x10);
    CHECK(entry.open()->chunks_found().size() == 1);
    flip(entry.map(), at, std::byte{0x10});
    CHECK(is_made_anew(entry, entry.spec()));
  }
  keep_units(*entry.open(), 2, 0x10);
  Bytes map = unbd::test::read_file(entry.map());
  map[8] ^= std::byte{3};
  const uint32_t check = crc32c(map.data(), kHeaderSums);
  std::memcpy(map.data() + kHeaderSums, &check, sizeof(check));
  unbd::test::write_file(entry.map(), map);
  CHECK(is_made_anew(entry, entry.spec()));
}

TEST("files of another length, or full of anything, empty the entry") {
  const CacheEntry entry = small_entry();
  const auto refill = [&] { keep_units(*entry.open(), 0, 3); };
  for (const uint64_t length : {0, 1, 4095, 4096, 4096 + 512, 4096 + 6 * 512 - 1, 4096 + 7 * 512}) {
    refill();
    std::filesystem::resize_file(entry.map(), length);
    CHECK(is_made_anew(entry, entry.spec()));
  }
  for (const uint64_t length :
       {uint64_t{0}, uint64_t{6 * 64 * kKib - 1}, uint64_t{7 * 64 * kKib}}) {
    refill();
    std::filesystem::resize_file(entry.data(), length);
    CHECK(is_made_anew(entry, entry.spec()));
    CHECK(std::filesystem::file_size(entry.data()) == 6 * 64 * kKib);
  }
  refill();
  std::filesystem::remove(entry.data());
  CHECK(is_made_anew(entry, entry.spec()));
  refill();
  std::filesystem::remove(entry.map());
  CHECK(is_made_anew(entry, entry.spec()));
  std::mt19937 random(7);
  refill();
  Bytes garbage(4096 + 6 * 512);
  for (std::byte& byte : garbage)
    byte = static_cast<std::byte>(random());
  unbd::test::write_file(entry.map(), garbage);
  CHECK(is_made_anew(entry, entry.spec()));
  refill();
  unbd::test::write_file(entry.map(), Bytes(garbage.size()));
  CHECK(is_made_anew(entry, entry.spec()));
}

TEST("a record that is damaged at any byte is dropped, or promises what it did") {
  const CacheEntry entry = small_entry();
  constexpr uint64_t kPresent = 0x8421;
  for (uint32_t chunk : {0U, 1U, 2U})
    keep_units(*entry.open(), chunk, kPresent);
  for (size_t at = 0; at < sizeof(CacheFile::Record); ++at) {
    const auto bits = static_cast<std::byte>(1 << at % 8);
    flip(entry.map(), entry.record_offset(1) + at, bits);
    {
      const std::shared_ptr<CacheFile> file = entry.open();
      const size_t sum = (at - offsetof(CacheFile::Record, sums)) / sizeof(uint32_t);
      const bool counts = at < 12 || (sum < 64 && (kPresent >> sum & 1) != 0);
      CHECK(file->record(1).present == (counts ? 0 : kPresent) && has_sums(*file, 1));
      CHECK(file->chunks_found().size() == (counts ? 2 : 3));
      CHECK(file->record(0).present == kPresent && file->record(2).present == kPresent);
      CHECK(file->cached_bytes() == (counts ? 2 : 3) * 16 * kKib);
    }
    flip(entry.map(), entry.record_offset(1) + at, bits);
  }
  // Even then its sums judge: its data were given up with it.
  CHECK(entry.verify().dropped_bytes == 16 * kKib);
  CHECK(entry.verify().dropped_bytes == 0);
}

TEST("a damaged record does not hinder its chunk from being kept anew") {
  const CacheEntry entry = small_entry();
  keep_units(*entry.open(), 1, 0xff);
  flip(entry.map(), entry.record_offset(1));
  keep_units(*entry.open(), 1, 0x100);
  CHECK(entry.open()->record(1).present == 0x100);
  CHECK(entry.verify().dropped_bytes == 0 && entry.verify().kept_bytes == 4 * kKib);
}

TEST("a record of another chunk, or of units behind the object's end, is not believed") {
  const CacheEntry entry = small_entry();
  CacheFile::Record record{};
  {
    const std::shared_ptr<CacheFile> file = entry.open();
    keep_units(*file, 0, 3);
    keep_units(*file, 5, 1);
    write_record(*file, 3, file->record(0));
    record = file->record(5);
    // The test knows how a record is summed.
    CHECK(record.check == check_of(5, record));
  }
  CHECK(entry.open()->chunks_found() == std::vector<uint32_t>({0, 5}));
  for (const uint64_t present : {uint64_t{3}, uint64_t{2}, uint64_t{1} << 63, ~uint64_t{0}}) {
    record.present = present;
    record.check = check_of(5, record);
    write_record(*entry.open(), 5, record);
    CHECK(entry.open()->chunks_found() == std::vector<uint32_t>({0}));
  }
  // A whole chunk of 64 KiB has sixteen units.
  record.present = 0x1ffff;
  record.check = check_of(2, record);
  write_record(*entry.open(), 2, record);
  CHECK(entry.open()->chunks_found() == std::vector<uint32_t>({0}));
  record.present = 0xffff;
  record.check = check_of(2, record);
  write_record(*entry.open(), 2, record);
  CHECK(entry.open()->chunks_found() == std::vector<uint32_t>({0, 2}));
}

TEST_MAIN()
