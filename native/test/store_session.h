// Owns: StoreSession, a store over an entry of the cache on disk with a source that the test plays:
// from the opening of the entry to its end; and the small store that most of them are.
// Runs on: the test's thread.
// Must not: leave the entry locked when it has ended.
#pragma once

#include "test/cache_fixture.h"
#include "test/played_source.h"

namespace unbd::test {

constexpr uint64_t kKib = 1024;
constexpr uint64_t kChunk = 64 * kKib;

// 24 chunks of 64 KiB and one unit of 1536 bytes; units of 4 KiB; memory for all of it.
inline store::StoreConfig small_store() {
  return {.size_bytes = 24 * kChunk + 1536,
          .memory_bytes = 64 * kChunk,
          .chunk_bytes = kChunk,
          .maximum_window_bytes = 0};
}
// The same through four chunks of memory: what was read is soon not there any more.
inline store::StoreConfig narrow_store() {
  store::StoreConfig config = small_store();
  config.memory_bytes = 4 * kChunk;
  return config;
}

class StoreSession {
 public:
  StoreSession(const store::StoreConfig& config, const CacheEntry& entry,
               uint64_t limit_bytes = CacheEntry::kNoLimit)
      : config_(config), harness_(config, entry.parts(limit_bytes)), source_(harness_) {}

  StoreHarness& harness() { return harness_; }
  PlayedSource& source() { return source_; }
  const store::CacheParts& cache() const { return harness_.parts().cache; }
  uint64_t count(store::StoreCounters::Name name) const { return harness_.count(name); }

  // Whether it can all be read; the harness judges the bytes.
  bool read(uint64_t offset_bytes, uint64_t length_bytes) {
    const uint64_t end = offset_bytes + length_bytes;
    for (uint64_t at = offset_bytes, length = 0; at < end; at += length) {
      length = std::min<uint64_t>(StoreHarness::kBufferBytes, end - at);
      harness_.read(0, at, length);
      source_.serve();
      if (harness_.result(0) != static_cast<int32_t>(length)) return false;
    }
    return true;
  }
  bool read_all() { return read(0, config_.size_bytes); }
  // The same, waiting for each piece to be written: nothing is skipped for a slow disk.
  bool read_and_save_all() {
    for (uint64_t at = 0, length = 0; at < config_.size_bytes; at += length) {
      length = std::min<uint64_t>(StoreHarness::kBufferBytes, config_.size_bytes - at);
      length = std::min<uint64_t>(config_.chunk_bytes, length);
      if (!read(at, length)) return false;
      settle();
    }
    return true;
  }
  // All that was fetched has been written, or was not meant to be. Perhaps it is not durable.
  void settle() {
    while (count(store::StoreCounters::kCacheWrittenBytes) +
               count(store::StoreCounters::kCacheSkippedBytes) <
           count(store::StoreCounters::kBytesFilled))
      harness_.turn();
  }
  // What the cache asks of a file is another one's from now on.
  static void replace(int fd, const char* path, int flags) {
    const Fd other(::open(path, flags | O_CLOEXEC));
    UN_ASSERT(other.valid() && ::dup3(other.get(), fd, O_CLOEXEC) == fd);
  }

 private:
  const store::StoreConfig config_;
  StoreHarness harness_;
  PlayedSource source_;
};

}  // namespace unbd::test
