// Owns: the out-of-order half of Coverage (see coverage.h).
// Runs on the queue's thread.
// Must not: exceed the caller's storage.
#include "nbd/coverage.h"

#include <algorithm>

#include "base/assert.h"

namespace unbd::nbd {

Coverage::Added Coverage::add_out_of_order(Interval added, std::span<Interval> storage) {
  UN_ASSERT(added.begin < added.end);
  UN_ASSERT(ahead_count_ <= storage.size());
  if (added.begin < next_) return Added::kOverlap;

  Interval* const first = storage.data();
  Interval* const last = first + ahead_count_;
  Interval* const after = std::find_if(
      first, last, [&](const Interval& interval) { return interval.begin >= added.begin; });
  if (after != last && after->begin < added.end) return Added::kOverlap;
  if (after != first && (after - 1)->end > added.begin) return Added::kOverlap;

  const bool joins_before = after != first && (after - 1)->end == added.begin;
  const bool joins_after = after != last && after->begin == added.end;
  if (joins_before && joins_after) {
    (after - 1)->end = after->end;
    std::copy(after + 1, last, after);
    --ahead_count_;
  } else if (joins_before) {
    (after - 1)->end = added.end;
  } else if (joins_after) {
    after->begin = added.begin;
  } else {
    if (ahead_count_ == storage.size()) return Added::kTooScattered;
    std::copy_backward(after, last, last + 1);
    *after = added;
    ++ahead_count_;
  }
  if (ahead_count_ > 0 && first->begin == next_) {
    next_ = first->end;
    std::copy(first + 1, first + ahead_count_, first);
    --ahead_count_;
  }
  return Added::kNew;
}

}  // namespace unbd::nbd
