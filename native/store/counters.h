// Owns: a store's counters, on cache lines of their own.
// Runs on: written by the queue's thread alone (so a plain load and store is enough), read by any.
// Must not: order anything; every access is relaxed.
#pragma once

#include <atomic>
#include <cstdint>

namespace unbd::store {

class alignas(128) StoreCounters {
 public:
  enum Name : unsigned {
    kHits,    // reads that were answered at once, or straight from the cache on disk
    kMisses,  // reads that had to wait for a fill
    kFills,   // ranges that the source was asked for
    kBytesFilled,
    kCachedBytes,        // what the cache on disk holds now
    kCacheReadBytes,     // from disk
    kCacheWrittenBytes,  // to disk
    kCacheCorruptBytes,  // could not be read from disk, or did not have their checksum
    kCacheSkippedBytes,  // fetched, and not written to disk
    kCount
  };

  void add(Name name, uint64_t amount) {
    values_[name].store(get(name) + amount, std::memory_order_relaxed);
  }
  uint64_t get(Name name) const { return values_[name].load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> values_[kCount]{};
};

}  // namespace unbd::store
