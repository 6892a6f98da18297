// Owns: Prefetch, how far the background fill of a whole object has come: which chunk is looked at
// next, how many fills are under way, and when the next one may begin.
// Runs on: the queue's thread, with its ring for the pauses.
// Must not: allocate, read a clock, or know what a chunk lacks: the store does.
#pragma once

#include <linux/time_types.h>

#include <algorithm>
#include <cstdint>

namespace unbd {
class Ring;
}

namespace unbd::store {

class Prefetch {
 public:
  // Enough to hide the delay of a far origin.
  static constexpr uint32_t kMostAtOnce = 8;
  // Whoever makes the device reads of it first.
  static constexpr unsigned kFirstPauseMs = 100;
  // After a fill that failed, while the cache takes nothing, and between two passes.
  static constexpr unsigned kPauseMs = 1000;
  // Of its CQEs; the cache on disk has none like it.
  static constexpr uint64_t kPayload = 1;
  static constexpr unsigned kMaxSqes = 2;  // the timer, and what takes it back

  // chunks > 0; slots: of the memory; bytes_per_s 0: as fast as it goes.
  Prefetch(uint64_t chunks, uint32_t slots, uint64_t bytes_per_s)
      : chunks_(chunks),
        most_(std::clamp<uint32_t>(slots / 4, 1, kMostAtOnce)),
        bytes_per_s_(bytes_per_s) {}

  void start(Ring& ring);
  uint32_t most_at_once() const { return most_; }
  bool may_begin() const { return !is_complete_ && !timer_runs_ && in_flight_ < most_; }

  // The one to look at.
  uint64_t chunk() const { return chunk_; }
  void begun(uint64_t length_bytes);
  void ended(bool has_failed);
  // Something of the chunk is missing and cannot be brought now: it is looked at again.
  void postpone() { found_missing_ = true; }
  // What of this chunk is in memory alone may be gone when its turn comes again: it is next.
  void come_back_to(uint64_t chunk) {
    chunk_ = std::min(chunk_, chunk);
    found_missing_ = true;
    is_complete_ = false;
  }
  // Nothing of the chunk is left to begin.
  void next();
  void pause(uint64_t pause_ns);
  static constexpr uint64_t ns(unsigned ms) { return ms * uint64_t{1'000'000}; }

  void on_timer();
  void stop();
  bool stopped() const { return !timer_runs_; }

 private:
  void stage_timer(uint64_t pause_ns);

  const uint64_t chunks_;
  const uint32_t most_;
  const uint64_t bytes_per_s_;
  uint64_t chunk_ = 0;
  uint32_t in_flight_ = 0;
  uint64_t next_pause_ns_ = 0;  // after the one that goes on
  __kernel_timespec pause_{};
  bool found_missing_ = false;  // in this pass
  bool is_complete_ = false;
  bool timer_runs_ = false;
  bool is_stopping_ = false;
  Ring* ring_ = nullptr;
};

}  // namespace unbd::store
