// Owns: the random reads by which a StoreAdapter is tried, whatever is behind it.
// Runs on: the test's thread, as the queue.
// Must not: choose anything that the seed does not tell.
#pragma once

#include <cstdio>
#include <ctime>
#include <random>

#include "test/store_fixture.h"

namespace unbd::test {

inline unsigned new_seed() {
  static unsigned last = static_cast<unsigned>(std::time(nullptr));
  std::printf("# seed %u\n", ++last);
  return last;
}

struct Outcome {
  unsigned served = 0;
  unsigned failed = 0;
};

// Keeps up to kDepth reads in flight: of 512 B to 1 MiB, small ones as often as large ones, and
// some of them one behind the other.
inline Outcome read_at_random(const store::StoreConfig& config, StoreHarness& harness,
                              unsigned seed, unsigned total) {
  std::mt19937 random(seed);
  Outcome outcome;
  uint64_t next = 0;
  bool counted[StoreHarness::kDepth] = {};
  unsigned submitted = 0;
  while (submitted < total || harness.in_flight() > 0) {
    const unsigned bound = 1 + static_cast<unsigned>(random() % StoreHarness::kDepth);
    for (uint16_t tag = 0; tag < bound && submitted < total; ++tag) {
      if (!harness.done(tag)) continue;
      if (counted[tag]) ++(harness.result(tag) > 0 ? outcome.served : outcome.failed);
      const uint64_t longest = uint64_t{512} << random() % 12;
      uint64_t length = (random() % longest / 512 + 1) * 512;
      if (length > config.size_bytes) length = config.size_bytes;
      const uint64_t places = (config.size_bytes - length) / 512 + 1;
      const bool follows = random() % 3 != 0 && next + length <= config.size_bytes;
      const uint64_t offset = follows ? next : random() % places * 512;
      next = offset + length;
      counted[tag] = true;
      ++submitted;
      harness.read(tag, offset, length);
    }
    if (harness.in_flight() > 0) harness.turn();
  }
  for (uint16_t tag = 0; tag < StoreHarness::kDepth; ++tag)
    if (counted[tag]) ++(harness.result(tag) > 0 ? outcome.served : outcome.failed);
  return outcome;
}

inline store::StoreConfig tiny(uint32_t chunk_bytes) {
  return {.size_bytes = 24 * uint64_t{chunk_bytes} + 1536,
          .memory_bytes = 4 * uint64_t{chunk_bytes},
          .chunk_bytes = chunk_bytes};
}

}  // namespace unbd::test
