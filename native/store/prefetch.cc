// Owns: the implementation of Prefetch (see prefetch.h).
// Runs on: the queue's thread.
// Must not: have more than one timer.
#include "store/prefetch.h"

#include <utility>

#include "base/assert.h"
#include "ring/ring.h"
#include "ring/user_data.h"

namespace unbd::store {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kTimerUserData = make_user_data(UserDataKind::kAdapter, Prefetch::kPayload);

}  // namespace

void Prefetch::start(Ring& ring) {
  ring_ = &ring;
  stage_timer(ns(kFirstPauseMs));
}

void Prefetch::begun(uint64_t length_bytes) {
  UN_ASSERT(may_begin());
  ++in_flight_;
  found_missing_ = true;
  // A fill has at most 16 MiB: the product is within 64 bits.
  if (bytes_per_s_ != 0) pause(length_bytes * kSecondNs / bytes_per_s_);
}

void Prefetch::ended(bool has_failed) {
  UN_ASSERT(in_flight_ > 0);
  --in_flight_;
  if (has_failed) pause(ns(kPauseMs));
}

// A pass that finds nothing missing is the last one.
void Prefetch::next() {
  if (++chunk_ < chunks_) return;
  chunk_ = 0;
  is_complete_ = !std::exchange(found_missing_, false);
  if (!is_complete_) pause(ns(kPauseMs));
}

void Prefetch::pause(uint64_t pause_ns) {
  if (timer_runs_)
    next_pause_ns_ = std::max(next_pause_ns_, pause_ns);
  else if (!is_stopping_)
    stage_timer(pause_ns);
}

void Prefetch::stage_timer(uint64_t pause_ns) {
  timer_runs_ = true;
  pause_ = {.tv_sec = static_cast<int64_t>(pause_ns / kSecondNs),
            .tv_nsec = static_cast<long long>(pause_ns % kSecondNs)};
  io_uring_sqe* const sqe = ring_->get_sqe();
  io_uring_prep_timeout(sqe, &pause_, 0, 0);
  sqe->user_data = kTimerUserData;
}

void Prefetch::on_timer() {
  timer_runs_ = false;
  const uint64_t pause_ns = std::exchange(next_pause_ns_, 0);
  if (pause_ns != 0) pause(pause_ns);
}

void Prefetch::stop() {
  is_stopping_ = true;
  if (!timer_runs_) return;
  io_uring_sqe* const sqe = ring_->get_sqe();
  io_uring_prep_cancel64(sqe, kTimerUserData, 0);
  sqe->user_data = make_user_data(UserDataKind::kIgnored, 0);
}

}  // namespace unbd::store
