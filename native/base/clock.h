// Owns: the monotonic clock in the units the core uses. Any thread.
// Must not: be used for wall time; nothing in the core depends on it.
#pragma once

#include <time.h>

#include <cstdint>

namespace unbd {

inline uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000ULL + static_cast<uint64_t>(now.tv_nsec);
}

inline uint64_t monotonic_ms() {
  return monotonic_ns() / 1'000'000ULL;
}

}  // namespace unbd
