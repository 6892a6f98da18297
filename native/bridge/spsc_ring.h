// Owns: SpscRing, a bounded queue from one thread to another.
// Runs on: push() on one thread, pop() on another one.
// Must not: lock, or allocate; what it holds is copied.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace unbd {

template <typename Entry, size_t kCapacity>
class SpscRing {
  static_assert((kCapacity & (kCapacity - 1)) == 0, "positions wrap by a mask");

 public:
  // False: it is full.
  bool push(const Entry& entry) {
    const uint64_t end = end_.load(std::memory_order_relaxed);
    if (end - begin_.load(std::memory_order_acquire) == kCapacity) return false;
    entries_[end & (kCapacity - 1)] = entry;
    end_.store(end + 1, std::memory_order_release);
    return true;
  }

  // False: it is empty.
  bool pop(Entry* entry) {
    const uint64_t begin = begin_.load(std::memory_order_relaxed);
    if (begin == end_.load(std::memory_order_acquire)) return false;
    *entry = entries_[begin & (kCapacity - 1)];
    begin_.store(begin + 1, std::memory_order_release);
    return true;
  }

 private:
  // Each position is written by one thread alone: on one cache line they would fight for it.
  alignas(128) std::atomic<uint64_t> begin_{0};
  alignas(128) std::atomic<uint64_t> end_{0};
  alignas(128) std::array<Entry, kCapacity> entries_{};
};

}  // namespace unbd
