// Owns: StoreConfig, the sizes of a store, and the rules that they keep. Pure values, any thread.
// Must not: be taken from a user unchecked: is_valid() is for who reads it, the store only asserts.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace unbd::store {

// Units of a chunk as bits: count of them from first on; count is 1 … 64.
constexpr uint64_t run_of_units(uint32_t first, uint32_t count) {
  return ~uint64_t{0} >> (64 - count) << first;
}

struct StoreConfig {
  uint64_t size_bytes = 0;         // of the object; a multiple of 512
  uint64_t memory_bytes = 0;       // of the arena; only whole chunks of it are used
  uint32_t chunk_bytes = 1 << 20;  // what is evicted as one, and the most that a fill brings
  uint32_t maximum_window_bytes = 16 << 20;  // of read-ahead; 0: none

  bool prefetches = false;            // all of it, to the cache on disk, which there is then
  uint64_t prefetch_bytes_per_s = 0;  // at most; 0: as fast as it goes

  static constexpr uint32_t kMinimumChunkBytes = 64 << 10;
  static constexpr uint32_t kMaximumChunkBytes = 16 << 20;
  static constexpr uint64_t kMinimumSlots = 4;

  bool is_valid() const {
    return size_bytes > 0 && size_bytes % 512 == 0 && std::has_single_bit(chunk_bytes) &&
           chunk_bytes >= kMinimumChunkBytes && chunk_bytes <= kMaximumChunkBytes &&
           memory_bytes / chunk_bytes >= kMinimumSlots &&
           memory_bytes / chunk_bytes < UINT32_MAX / 4;
  }

  // What is present or not: 64 of them, or fewer, make a chunk, so that one word tells.
  uint32_t unit_bytes() const { return std::max<uint32_t>(4096, chunk_bytes / 64); }
  uint32_t slots() const { return static_cast<uint32_t>(memory_bytes / chunk_bytes); }
  // Read-ahead that filled more than half of the memory would evict what it has brought itself; and
  // a window as wide as that half would go on by as little as has just become free.
  uint32_t window_bytes() const {
    const uint64_t bound = slots() * 3 / 8 * uint64_t{chunk_bytes};
    return static_cast<uint32_t>(std::min<uint64_t>(bound, maximum_window_bytes));
  }
};

}  // namespace unbd::store
