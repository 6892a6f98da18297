// Owns: CacheEntry, an entry of the cache on disk in a temporary folder of its own, for tests: how
// it is opened, filled, damaged and copied.
// Runs on: the test's thread.
// Must not: leave the folder behind, or know more of the files than cache_file.h tells.
#pragma once

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/fd.h"
#include "store/cache_file.h"
#include "store/disk_cache.h"
#include "test/store_fixture.h"

namespace unbd::test {

using Bytes = std::vector<std::byte>;

// Of the whole, or the test ends.
inline Bytes read_file(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status{};
  UN_ASSERT(fd.valid() && ::fstat(fd.get(), &status) == 0);
  Bytes bytes(static_cast<size_t>(status.st_size));
  // Only what is there: a data file is mostly holes.
  for (off_t at = 0; (at = ::lseek(fd.get(), at, SEEK_DATA)) >= 0 && at < status.st_size;) {
    const off_t hole = ::lseek(fd.get(), at, SEEK_HOLE);
    // A hole may be punched meanwhile.
    const off_t end = hole > at ? std::min(hole, off_t{status.st_size}) : off_t{status.st_size};
    while (at < end) {
      const ssize_t got = ::pread(fd.get(), bytes.data() + at, static_cast<size_t>(end - at), at);
      UN_ASSERT(got > 0);
      at += got;
    }
  }
  return bytes;
}
inline void write_file(const std::string& path, const Bytes& bytes, off_t offset_bytes = 0) {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  UN_ASSERT(fd.valid());
  UN_ASSERT(::pwrite(fd.get(), bytes.data(), bytes.size(), offset_bytes) ==
            static_cast<ssize_t>(bytes.size()));
}
inline void flip(const std::string& path, uint64_t offset_bytes, std::byte bits = std::byte{1}) {
  const Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  std::byte byte{};
  UN_ASSERT(::pread(fd.get(), &byte, 1, static_cast<off_t>(offset_bytes)) == 1);
  byte ^= bits;
  UN_ASSERT(::pwrite(fd.get(), &byte, 1, static_cast<off_t>(offset_bytes)) == 1);
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    const char* const parent = ::getenv("TMPDIR");
    path_ = std::string(parent != nullptr && *parent != 0 ? parent : "/tmp") + "/unbd-cache-XXXXXX";
    UN_ASSERT(::mkdtemp(path_.data()) != nullptr);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class CacheEntry {
 public:
  static constexpr uint64_t kNoLimit = uint64_t{1} << 60;

  CacheEntry(uint64_t size_bytes, uint32_t chunk_bytes)
      : spec_{.directory = folder_.path(),
              .size_bytes = size_bytes,
              .chunk_bytes = chunk_bytes,
              .key = std::string(64, 'a')} {}
  explicit CacheEntry(const store::StoreConfig& config)
      : CacheEntry(config.size_bytes, config.chunk_bytes) {}

  const store::CacheFileSpec& spec() const { return spec_; }
  std::string map() const { return folder_.path() + "/map"; }
  std::string data() const { return folder_.path() + "/data"; }

  std::shared_ptr<store::CacheFile> open() const { return open(spec_); }
  static std::shared_ptr<store::CacheFile> open(const store::CacheFileSpec& spec) {
    std::shared_ptr<store::CacheFile> file;
    int result = store::CacheFile::open(spec, &file);
    // The kernel ends a ring, and gives back the files that its requests had, a moment later.
    for (int tries = 0; result == -EAGAIN && tries < 1000; ++tries) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      result = store::CacheFile::open(spec, &file);
    }
    if (result != 0) std::printf("# open: %s\n", ::strerror(-result));
    UN_ASSERT(result == 0 && file != nullptr);
    return file;
  }
  store::CacheParts parts(uint64_t limit_bytes = kNoLimit) const {
    store::CacheParts parts;
    UN_ASSERT(store::DiskCache::make_parts(open(), limit_bytes, &parts) == 0);
    return parts;
  }

  uint64_t data_bytes_on_disk() const {
    struct stat status{};
    UN_ASSERT(::stat(data().c_str(), &status) == 0);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }
  uint64_t record_offset(uint32_t chunk) const { return store::CacheFile::record_offset(chunk); }

  struct Verified {
    uint64_t checked_bytes = 0;
    uint64_t dropped_bytes = 0;
    uint64_t kept_bytes = 0;
  };
  // Opens it and looks at all that it has.
  Verified verify() const {
    const std::shared_ptr<store::CacheFile> file = open();
    Verified verified;
    for (uint32_t chunk = 0; chunk < file->chunks(); ++chunk)
      UN_ASSERT(file->verify(chunk, &verified.checked_bytes, &verified.dropped_bytes) == 0);
    verified.kept_bytes = file->cached_bytes();
    return verified;
  }

 private:
  TemporaryFolder folder_;
  const store::CacheFileSpec spec_;
};

// The object's bytes of a unit, as they stand in a data file; aligned for O_DIRECT.
struct UnitBytes {
  UnitBytes(const store::CacheFile& file, uint32_t chunk, unsigned unit)
      : length(file.unit_bytes()),
        offset(uint64_t{chunk} * file.chunk_bytes() + uint64_t{unit} * length),
        memory(static_cast<std::byte*>(::aligned_alloc(4096, length)), &::free) {
    std::memset(memory.get(), 0, length);
    write_object(memory.get(), offset, std::min<uint64_t>(length, file.size_bytes() - offset));
  }
  std::byte* data() const { return memory.get(); }

  const size_t length;
  const uint64_t offset;
  const std::unique_ptr<std::byte, decltype(&::free)> memory;
};

inline void write_record(const store::CacheFile& file, uint32_t chunk,
                         const store::CacheFile::Record& record) {
  UN_ASSERT(::pwrite(file.map_fd(), &record, sizeof(record),
                     static_cast<off_t>(store::CacheFile::record_offset(chunk))) ==
            static_cast<ssize_t>(sizeof(record)));
}

// As a store does it, without one.
inline void keep_units(store::CacheFile& file, uint32_t chunk, uint64_t units) {
  for (unsigned unit = 0; unit < 64; ++unit) {
    if ((units >> unit & 1) == 0) continue;
    const UnitBytes bytes(file, chunk, unit);
    UN_ASSERT(::pwrite(file.data_fd(), bytes.data(), bytes.length,
                       static_cast<off_t>(bytes.offset)) == static_cast<ssize_t>(bytes.length));
    file.set_sum(chunk, unit, bytes.data());
  }
  file.keep(chunk, units);
  write_record(file, chunk, file.record(chunk));
}

}  // namespace unbd::test
