// Owns: RingTimer, one timer on a queue's ring.
// Runs on: the queue's thread.
// Must not: be destroyed while is_idle() is false; the kernel may still answer.
#pragma once

#include <cstdint>

#include "ring/ring.h"
#include "ring/user_data.h"

namespace unbd::nbd {

class RingTimer {
 public:
  // payload names its CQEs among the adapter's.
  explicit RingTimer(uint64_t payload)
      : user_data_(make_user_data(UserDataKind::kAdapter, payload)) {}

  void start(Ring& ring, uint64_t delay_ms) {
    delay_ms_ = delay_ms;
    wanted_ = true;
    if (in_flight_) {
      cancel_in_flight(ring);
    } else {
      stage(ring);
    }
  }

  void cancel(Ring& ring) {
    wanted_ = false;
    if (in_flight_) cancel_in_flight(ring);
  }

  // Its CQE; true: the time is over.
  bool on_cqe(Ring& ring) {
    in_flight_ = false;
    if (cancelled_ && wanted_) {
      stage(ring);
      return false;
    }
    const bool is_over = wanted_;
    wanted_ = false;
    return is_over;
  }

  bool is_running() const { return wanted_; }
  bool is_idle() const { return !in_flight_; }

 private:
  void stage(Ring& ring) {
    limit_ = {.tv_sec = static_cast<int64_t>(delay_ms_ / 1000),
              .tv_nsec = static_cast<long long>(delay_ms_ % 1000) * 1'000'000};
    io_uring_sqe* const sqe = ring.get_sqe();
    // A machine that slept has let the backend wait as well.
    io_uring_prep_timeout(sqe, &limit_, 0, IORING_TIMEOUT_BOOTTIME);
    sqe->user_data = user_data_;
    in_flight_ = true;
    cancelled_ = false;
  }

  void cancel_in_flight(Ring& ring) {
    if (cancelled_) return;
    io_uring_sqe* const sqe = ring.get_sqe();
    io_uring_prep_timeout_remove(sqe, user_data_, 0);
    sqe->user_data = make_user_data(UserDataKind::kIgnored, 0);
    cancelled_ = true;
  }

  const uint64_t user_data_;
  uint64_t delay_ms_ = 0;
  __kernel_timespec limit_ = {};  // read by the kernel when the SQE is submitted
  bool wanted_ = false;
  bool in_flight_ = false;
  bool cancelled_ = false;
};

}  // namespace unbd::nbd
