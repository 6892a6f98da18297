// Owns: the half of NbdAdapter (see nbd/adapter.h) that knows how it stands with the backend: the
// loss of a connection, the hold, the resume on a new one, and the end.
// Runs on the queue's thread.
// Must not: begin with a new connection before the old one has no SQE in flight.
#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>

#include "base/assert.h"
#include "nbd/adapter.h"
#include "nbd/unflushed_log.h"

namespace unbd {

using nbd::is_change;
using nbd::Pending;
using nbd::RequestState;

namespace {

// Payloads of user_data beside the connection's.
constexpr uint64_t kHoldTimerPayload = 4;
constexpr uint64_t kAgeTimerPayload = 5;

// A request is too old after this many ticks, so at an age between the limit and an eighth more.
constexpr uint32_t kTicksOfTimeout = 8;

const char* name_of(Op op) {
  switch (op) {
    case Op::kRead:
      return "READ";
    case Op::kWrite:
      return "WRITE";
    case Op::kFlush:
      return "FLUSH";
    case Op::kDiscard:
      return "TRIM";
    case Op::kWriteZeroes:
      return "WRITE_ZEROES";
  }
  __builtin_unreachable();
}

uint32_t tick_ms_of(const NbdDeviceConfig& config) {
  const uint32_t timeout_ms = config.request_timeout_ms;
  return timeout_ms == 0 ? 0 : std::max(timeout_ms / kTicksOfTimeout, 1U);
}

}  // namespace

// A device that starts without a connection may have a predecessor, whose writes are not counted
// here.
NbdAdapter::NbdAdapter(std::shared_ptr<NbdDevice> device, unsigned queue,
                       std::unique_ptr<nbd::Connection> connection)
    : device_(std::move(device)),
      log_(device_->log()),
      queue_(queue),
      depth_(device_->config().depth),
      durable_writes_(device_->config().durable_writes),
      tick_ms_(tick_ms_of(device_->config())),
      connection_(std::move(connection)),
      waiting_(depth_),
      hold_timer_(kHoldTimerPayload),
      age_timer_(kAgeTimerPayload),
      volatile_writes_(connection_ == nullptr && !device_->config().read_only ? 1 : 0) {}

int NbdAdapter::start(Ring& ring, CompletionSink& sink, EventSink& events) {
  UN_ASSERT(ring_ == nullptr);
  ring_ = &ring;
  sink_ = &sink;
  events_ = &events;
  device_->entered(state_);
  if (connection_ == nullptr) {
    begin_hold(device_->config().first_hold_ms);
  } else {
    enter(State::kConnected);
    connection_->start(ring, *this);
  }
  return 0;
}

void NbdAdapter::on_cqe(uint64_t payload, int32_t result, uint32_t flags) {
  if (payload == kHoldTimerPayload) {
    if (hold_timer_.on_cqe(*ring_)) hold_expired();
  } else if (payload == kAgeTimerPayload) {
    if (age_timer_.on_cqe(*ring_)) check_ages();
  } else {
    UN_ASSERT(connection_ != nullptr);
    connection_->on_cqe(payload, result, flags);
  }
}

void NbdAdapter::end_turn() {
  if (state_ != State::kConnected) [[unlikely]] {
    advance();
    if (state_ != State::kConnected) return;
  }
  if (!waiting_.is_empty()) [[unlikely]]
    dispatch_waiting();
  connection_->end_turn();
  if (tick_ms_ != 0) watch_ages();
}

void NbdAdapter::enter(State next) {
  // Whoever says goodbye does not count any more.
  if (ending_ == Ending::kNo) {
    device_->left(state_);
    device_->entered(next);
  }
  state_ = next;
}

// The single place where a connection is found to be lost.
void NbdAdapter::lost(std::string_view kind, std::string_view reason) {
  if (ending_ != Ending::kGoodbye) events_->post(kind, reason);
  cut();
  begin_hold(device_->config().reconnect_delay_ms);
}

void NbdAdapter::hold() {
  next_.reset();
  if (state_ != State::kConnected) return;
  cut();
  begin_hold(device_->config().reconnect_delay_ms);
}

// Ends the connection; its requests wait. What follows changes the state.
void NbdAdapter::cut() {
  UN_ASSERT(state_ == State::kConnected);
  connection_->reset();
  age_timer_.cancel(*ring_);
  take_back_requests();
  device_->lost();
}

void NbdAdapter::take_back_requests() {
  nbd::RequestTable& table = connection_->table();
  for (unsigned tag = 0; tag < table.tags() && table.requests_in_flight() > 0; ++tag) {
    RequestState& state = table.state(tag);
    if (!state.in_flight) continue;
    table.end(state);
    if (tag == depth_) continue;  // our own FLUSH
    state.was_sent = true;
    if (is_change(state.request) && !device_->config().resend_writes) {
      finish_unsent(state, -EIO);
    } else {
      waiting_.push(state);
    }
  }
  own_flush_in_flight_ = false;
  log_is_full_ = false;
  waiting_.sort();
}

void NbdAdapter::begin_hold(int64_t delay_ms) {
  if (delay_ms == 0 || ending_ != Ending::kNo) {
    begin_failing(ending_ == Ending::kNo ? State::kFailing : State::kFatal, EIO);
    return;
  }
  enter(State::kHolding);
  if (delay_ms != NbdDeviceConfig::kForever)
    hold_timer_.start(*ring_, static_cast<uint64_t>(delay_ms));
}

void NbdAdapter::hold_expired() {
  UN_ASSERT(state_ == State::kHolding);
  begin_failing(State::kFailing, EIO);
  events_->post("hold-expired",
                "the backend did not come back in time; requests fail until it does");
}

// From here on every request ends with error.
void NbdAdapter::begin_failing(State state, int error) {
  enter(state);
  error_ = error;
  hold_timer_.cancel(*ring_);
  fail_waiting(-error);
}

void NbdAdapter::fail_waiting(int error) {
  while (!waiting_.is_empty())
    finish_unsent(waiting_.pop(), error);
}

void NbdAdapter::resume(std::unique_ptr<BackendConnection> connection) {
  if (state_ == State::kFatal || ending_ != Ending::kNo) return;
  if (state_ == State::kConnected) {
    cut();
    enter(State::kHolding);
  }
  next_.reset(static_cast<nbd::Connection*>(connection.release()));
}

// While not connected: what waits for the last SQEs of the old connection.
void NbdAdapter::advance() {
  if (connection_ != nullptr) {
    if (!connection_->is_idle()) return;
    connection_.reset();
  }
  if (next_ == nullptr) return;
  connection_ = std::move(next_);
  hold_timer_.cancel(*ring_);
  enter(State::kConnected);
  connection_->start(*ring_, *this);
  const uint64_t replayed = resend();
  device_->replayed(replayed);
  char text[24];
  const int length = std::snprintf(text, sizeof(text), "%" PRIu64, replayed);
  events_->post("resumed", {text, static_cast<size_t>(length)});
}

// In the order of their submission: what was in flight, then what arrived meanwhile. Returns how
// many of the former.
uint64_t NbdAdapter::resend() {
  const uint64_t doubts = device_->doubts();
  const bool in_doubt = doubts != seen_doubts_;
  seen_doubts_ = doubts;
  uint64_t replayed = 0;
  for (size_t left = waiting_.size(); left > 0; --left) {
    Pending pending = waiting_.pop();
    if (in_doubt && pending.was_sent && (pending.request.op == Op::kFlush || pending.request.fua)) {
      finish_unsent(pending, -EIO);
      continue;
    }
    if (pending.was_sent) ++replayed;
    dispatch(pending);
  }
  return replayed;
}

// The clock by which requests age runs only while there are any.
void NbdAdapter::watch_ages() {
  if (state_ == State::kConnected && ending_ == Ending::kNo && !age_timer_.is_running() &&
      connection_->table().requests_in_flight() > 0)
    age_timer_.start(*ring_, tick_ms_);
}

void NbdAdapter::check_ages() {
  ++tick_;
  nbd::RequestTable& table = connection_->table();
  for (unsigned tag = 0; tag < table.tags() && table.requests_in_flight() > 0; ++tag) {
    const RequestState& state = table.state(tag);
    if (!state.in_flight || tick_ - state.tick <= kTicksOfTimeout) continue;
    const uint32_t timeout_ms = device_->config().request_timeout_ms;
    const bool whole_seconds = timeout_ms % 1000 == 0;
    char text[160];
    const int length = std::snprintf(
        text, sizeof(text),
        "the backend has not answered a %s of %" PRIu64 " bytes at offset %" PRIu64 " for %" PRIu32
        " %s (--request-timeout)",
        name_of(state.request.op), state.request.length_bytes, state.request.offset_bytes,
        whole_seconds ? timeout_ms / 1000 : timeout_ms, whole_seconds ? "s" : "ms");
    lost("backend-lost", {text, static_cast<size_t>(length)});
    return;
  }
}

void NbdAdapter::fail_all(int error) {
  UN_ASSERT(error > 0);
  next_.reset();
  if (state_ == State::kConnected) cut();
  begin_failing(State::kFatal, error);
}

bool NbdAdapter::needs_last_flush() const {
  return volatile_writes_ != flushed_writes_ || (log_ != nullptr && !log_->all_flushed());
}

void NbdAdapter::stop() {
  UN_ASSERT(ending_ == Ending::kNo);
  device_->left(state_);
  next_.reset();
  age_timer_.cancel(*ring_);
  ending_ = Ending::kLastFlush;
  if (state_ == State::kConnected) {
    UN_ASSERT(connection_->table().requests_in_flight() == (own_flush_in_flight_ ? 1 : 0));
    if (!own_flush_in_flight_) advance_end();
    end_turn();
    return;
  }
  if (state_ != State::kFatal && needs_last_flush())
    warn("the device was stopped without its backend; writes that it had not flushed may be lost");
  begin_failing(State::kFatal, EIO);
}

void NbdAdapter::advance_end() {
  if (connection_->agreement().can_flush && needs_last_flush()) {
    stage_own_flush();
    return;
  }
  ending_ = Ending::kGoodbye;
  connection_->say_goodbye();
}

bool NbdAdapter::stopped() const {
  return (state_ == State::kFailing || state_ == State::kFatal) &&
         (connection_ == nullptr || connection_->is_idle()) && hold_timer_.is_idle() &&
         age_timer_.is_idle();
}

}  // namespace unbd
