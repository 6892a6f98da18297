// Owns: the implementation of NbdDevice (see nbd/device.h).
// Runs on: any thread.
// Must not: lock.
#include "nbd/device.h"

#include <utility>

#include "base/assert.h"
#include "nbd/unflushed_log.h"

namespace unbd {
namespace {

// Raises what is stored to value; false when it is there already.
bool raise(std::atomic<uint64_t>* stored, uint64_t value) {
  uint64_t before = stored->load(std::memory_order_acquire);
  while (before < value) {
    if (stored->compare_exchange_weak(before, value, std::memory_order_acq_rel)) return true;
  }
  return false;
}

}  // namespace

NbdDevice::NbdDevice(NbdDeviceConfig config)
    : config_(std::move(config)),
      log_(config_.unflushed == Unflushed::kReplay && !config_.durable_writes ? config_.log.get()
                                                                              : nullptr),
      fails_flushes_(config_.unflushed == Unflushed::kFailFlush),
      doubts_(fails_flushes_ && config_.in_doubt ? 1 : 0) {
  UN_ASSERT(config_.depth > 0 && config_.maximum_request_bytes > 0);
  UN_ASSERT(config_.unflushed != Unflushed::kReplay || config_.log != nullptr);
  UN_ASSERT(log_ == nullptr || log_->write_bytes_max() >= config_.maximum_request_bytes);
}

uint64_t NbdDevice::sequence() const {
  return log_ != nullptr ? log_->sequence() : acknowledged_.load(std::memory_order_acquire);
}

void NbdDevice::flushed(uint64_t sequence) {
  if (log_ != nullptr) {
    log_->flushed(sequence);
  } else {
    raise(&flushed_, sequence);
  }
}

// Connections of a device are lost one after the other, and all before the first resume. What one
// of them has put in doubt is not counted again by the next.
void NbdDevice::lost() {
  if (fails_flushes_ && raise(&flushed_, acknowledged_.load(std::memory_order_acquire)))
    doubts_.fetch_add(1, std::memory_order_acq_rel);
}

bool NbdDevice::takes_blame() {
  return raise(&blamed_, doubts());
}

NbdDevice::State NbdDevice::state() const {
  for (unsigned state = kStates - 1; state > 0; --state)
    if (counts_[state] > 0) return static_cast<State>(state);
  return State::kConnected;
}

uint64_t NbdDevice::unflushed_bytes() const {
  return log_ == nullptr ? 0 : log_->totals().bytes;
}

}  // namespace unbd
