// Owns: the claims about Coverage, judged by a plain bitmap.
// Runs on the test's thread.
// Must not: depend on the order in which intervals are kept.
#include "nbd/coverage.h"

#include <algorithm>
#include <random>
#include <vector>

#include "test/check.h"

using unbd::nbd::Coverage;
using unbd::nbd::Interval;
using Added = Coverage::Added;

TEST("chunks in order need no storage") {
  Coverage coverage;
  for (uint32_t offset = 0; offset < 1000; offset += 10)
    CHECK(coverage.add(offset, 10, {}) == Added::kNew);
  CHECK(coverage.is_complete(1000));
  CHECK(!coverage.is_complete(1001));
}

TEST("overlap and a gap of equal size is not complete") {
  Interval storage[4];
  Coverage coverage;
  CHECK(coverage.add(0, 100, storage) == Added::kNew);
  CHECK(coverage.add(50, 100, storage) == Added::kOverlap);
  CHECK(coverage.add(200, 100, storage) == Added::kNew);
  CHECK(coverage.add(199, 2, storage) == Added::kOverlap);
  CHECK(coverage.add(250, 1, storage) == Added::kOverlap);
  CHECK(!coverage.is_complete(200));
  CHECK(!coverage.is_complete(300));
}

TEST("too many scattered chunks are refused") {
  Interval storage[2];
  Coverage coverage;
  CHECK(coverage.add(10, 1, storage) == Added::kNew);
  CHECK(coverage.add(20, 1, storage) == Added::kNew);
  CHECK(coverage.add(30, 1, storage) == Added::kTooScattered);
  CHECK(coverage.add(11, 1, storage) == Added::kNew);
}

TEST("any order of any chunks agrees with a bitmap") {
  std::minstd_rand random(20261120);
  for (int round = 0; round < 3000; ++round) {
    constexpr uint32_t kLength = 64;
    Interval storage[kLength];
    Coverage coverage;
    std::vector<bool> bitmap(kLength, false);
    for (int step = 0; step < 40; ++step) {
      const uint32_t offset = static_cast<uint32_t>(random() % kLength);
      const uint32_t length = 1 + static_cast<uint32_t>(random() % std::min(kLength - offset, 12U));
      const auto first = bitmap.begin() + offset;
      const bool overlaps = std::find(first, first + length, true) != first + length;
      CHECK(coverage.add(offset, length, storage) == (overlaps ? Added::kOverlap : Added::kNew));
      if (!overlaps) std::fill(first, first + length, true);
      const bool complete = std::find(bitmap.begin(), bitmap.end(), false) == bitmap.end();
      CHECK(coverage.is_complete(kLength) == complete);
    }
  }
}

TEST_MAIN()
