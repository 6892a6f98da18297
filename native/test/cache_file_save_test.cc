// Owns: the claims about CacheFile::save() and commit(), by which a whole object comes into an
// entry without a store.
// Runs on the test's thread.
// Must not: need O_DIRECT.
#include "test/cache_fixture.h"
#include "test/check.h"

using namespace unbd;
using unbd::store::CacheFile;
using unbd::test::Bytes;
using unbd::test::CacheEntry;
using unbd::test::flip;
using unbd::test::keep_units;
using unbd::test::read_file;

namespace {

constexpr uint32_t kKib = 1024;
constexpr uint32_t kMib = 1024 * 1024;

// The object's bytes of a chunk, at an address that no disk would take.
struct ChunkBytes {
  ChunkBytes(const CacheFile& file, uint32_t chunk) : bytes(file.length_of(chunk) + 8) {
    unbd::test::write_object(data(), uint64_t{chunk} * file.chunk_bytes(), length());
  }
  std::byte* data() { return bytes.data() + 8; }
  size_t length() const { return bytes.size() - 8; }
  Bytes bytes;
};

void save(CacheFile& file, uint32_t chunk) {
  ChunkBytes bytes(file, chunk);
  CHECK(file.save(chunk, bytes.data(), bytes.length()) == 0);
}

bool holds_object(const CacheEntry& entry, uint64_t size_bytes) {
  return unbd::test::is_object(read_file(entry.data()).data(), 0, size_bytes);
}

}  // namespace

TEST("an object that is saved is whole for whoever opens the entry next") {
  for (uint32_t chunk_bytes : {64 * kKib, kMib, 16 * kMib}) {
    const uint64_t size_bytes = 2 * uint64_t{chunk_bytes} + 1536;
    const CacheEntry entry(size_bytes, chunk_bytes);
    {
      const std::shared_ptr<CacheFile> file = entry.open();
      for (uint32_t chunk = 0; chunk < 3; ++chunk)
        save(*file, chunk);
      CHECK(file->cached_bytes() == 0);
      CHECK(file->commit() == 0 && file->cached_bytes() == size_bytes);
    }
    const CacheEntry::Verified verified = entry.verify();
    CHECK(verified.kept_bytes == size_bytes && verified.dropped_bytes == 0);
    CHECK(entry.open()->chunks_found().size() == 3 && holds_object(entry, size_bytes));
  }
}

TEST("what was not committed is not there, and the rest is") {
  const CacheEntry entry(4 * 64 * kKib, 64 * kKib);
  {
    const std::shared_ptr<CacheFile> file = entry.open();
    save(*file, 0);
    save(*file, 2);
    CHECK(file->commit() == 0);
    save(*file, 1);
  }
  CHECK(entry.open()->chunks_found() == std::vector<uint32_t>({0, 2}));
  CHECK(entry.verify().dropped_bytes == 0);
}

TEST("a part that was there, and may be damaged, is written anew; a whole one is left alone") {
  const CacheEntry entry(2 * 64 * kKib, 64 * kKib);
  keep_units(*entry.open(), 0, 0xff);
  keep_units(*entry.open(), 1, 0xffff);
  flip(entry.data(), 100);
  flip(entry.data(), 64 * kKib + 100);
  {
    const std::shared_ptr<CacheFile> file = entry.open();
    save(*file, 0);
    save(*file, 0);
    save(*file, 1);
    CHECK(file->commit() == 0 && file->cached_bytes() == 2 * 64 * kKib);
  }
  CHECK(entry.verify().dropped_bytes == 4 * kKib);
  CHECK(entry.open()->record(0).present == 0xffff);
}

TEST("a disk that takes nothing is an error, and promises nothing") {
  const CacheEntry entry(2 * 64 * kKib, 64 * kKib);
  {
    const std::shared_ptr<CacheFile> file = entry.open();
    save(*file, 0);
    CHECK(file->commit() == 0);
    const Fd full(::open("/dev/full", O_RDWR | O_CLOEXEC));
    CHECK(full.valid() && ::dup3(full.get(), file->data_fd(), O_CLOEXEC) >= 0);
    ChunkBytes bytes(*file, 1);
    CHECK(file->save(1, bytes.data(), bytes.length()) == -ENOSPC);
  }
  CHECK(entry.open()->chunks_found() == std::vector<uint32_t>({0}));
}

TEST_MAIN()
