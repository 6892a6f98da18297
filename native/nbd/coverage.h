// Owns: Coverage, which bytes of one READ its reply's chunks have brought so far.
// Runs on: the queue's thread.
// Must not: accept a byte twice, or call a read complete that has a gap; the backend chooses what
// comes here.
#pragma once

#include <cstdint>
#include <span>

namespace unbd::nbd {

struct Interval {
  uint32_t begin;
  uint32_t end;
};

// Chunks nearly always come in order and then cost one addition. What comes ahead of a gap is kept
// in a sorted list of bounded length, in storage that the caller passes on every call.
class Coverage {
 public:
  enum class Added { kNew, kOverlap, kTooScattered };

  void reset() {
    next_ = 0;
    ahead_count_ = 0;
  }

  // length > 0, and offset + length does not overflow.
  Added add(uint32_t offset, uint32_t length, std::span<Interval> storage) {
    if (offset == next_ && ahead_count_ == 0) [[likely]] {
      next_ += length;
      return Added::kNew;
    }
    return add_out_of_order({offset, offset + length}, storage);
  }

  bool is_complete(uint32_t length) const { return next_ == length && ahead_count_ == 0; }

 private:
  Added add_out_of_order(Interval added, std::span<Interval> storage);

  uint32_t next_ = 0;         // every byte below it is there
  uint32_t ahead_count_ = 0;  // intervals beyond it, sorted, with a gap before each of them
};

}  // namespace unbd::nbd
