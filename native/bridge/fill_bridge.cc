// Owns: the implementation of FillBridge (see fill_bridge.h).
// Runs on: as said there.
// Must not: block.
#include "bridge/fill_bridge.h"

#include <liburing.h>
#include <sys/eventfd.h>

#include <bit>
#include <cerrno>
#include <utility>

#include "base/assert.h"

namespace unbd {
namespace {

uint64_t pack(const FillReport& report) {
  return static_cast<uint64_t>(report.error) << 32 | report.landed_bytes;
}

}  // namespace

FillBridge::FillBridge(std::shared_ptr<Doorbell> doorbell)
    : event_(::eventfd(0, EFD_CLOEXEC)), doorbell_(std::move(doorbell)) {
  if (!event_.valid()) error_ = -errno;
}

bool FillBridge::push(const Fill& fill) {
  UN_ASSERT(fill.id < kMaxFills);
  if (fill.kind == Fill::Kind::kRead) {
    // The last fill of this id has ended: the source writes here again only after it took this one.
    states_[fill.id].store(0, std::memory_order_relaxed);
    seen_[fill.id] = 0;
  }
  if (!fills_.push(fill)) return false;
  pushed_ = true;
  return true;
}

void FillBridge::ring() {
  if (!pushed_) return;
  pushed_ = false;
  doorbell_->ring();
}

bool FillBridge::take(FillReport* report) {
  for (unsigned word = 0; word < kWords; ++word) {
    if (to_look_at_[word] == 0 && dirty_[word].load(std::memory_order_relaxed) != 0)
      to_look_at_[word] = dirty_[word].exchange(0, std::memory_order_acquire);
    while (to_look_at_[word] != 0) {
      const unsigned bit = static_cast<unsigned>(std::countr_zero(to_look_at_[word]));
      to_look_at_[word] &= to_look_at_[word] - 1;
      const uint32_t id = word * 64 + bit;
      // Acquire here as well: the state may be newer than the bit that led to it. That bit then
      // comes again and has nothing to tell.
      const uint64_t state = states_[id].load(std::memory_order_acquire);
      if (state == seen_[id]) continue;
      seen_[id] = state;
      *report = {.id = id,
                 .landed_bytes = static_cast<uint32_t>(state),
                 .error = static_cast<int32_t>(state >> 32)};
      return true;
    }
  }
  return false;
}

void FillBridge::stage_wait(io_uring_sqe* sqe) {
  io_uring_prep_read(sqe, event_.get(), &event_count_, sizeof(event_count_), 0);
}

bool FillBridge::take(Fill* fill) {
  while (fills_.pop(fill)) {
    Taken& taken = taken_[fill->id];
    if (fill->kind == Fill::Kind::kRead) {
      UN_ASSERT(!taken.live && fill->length_bytes > 0);
      taken = {.length_bytes = fill->length_bytes, .landed_bytes = 0, .live = true};
      return true;
    }
    // It may have ended after the queue promoted it, and the next fill of this id stands behind.
    if (taken.live) return true;
  }
  return false;
}

void FillBridge::report(const FillReport& report) {
  UN_ASSERT(report.id < kMaxFills && report.error >= 0);
  Taken& taken = taken_[report.id];
  UN_ASSERT(taken.live);
  UN_ASSERT(report.landed_bytes >= taken.landed_bytes && report.landed_bytes <= taken.length_bytes);
  taken.landed_bytes = report.landed_bytes;
  taken.live = report.error == 0 && report.landed_bytes < taken.length_bytes;
  states_[report.id].store(pack(report), std::memory_order_release);
  const uint64_t bit = uint64_t{1} << (report.id % 64);
  // A word that was not clean has been signalled, and the queue has not taken it since.
  if (dirty_[report.id / 64].fetch_or(bit, std::memory_order_release) != 0) return;
  const int result = ::eventfd_write(event_.get(), 1);
  UN_ASSERT(result == 0);
}

}  // namespace unbd
