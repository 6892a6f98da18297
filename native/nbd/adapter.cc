// Owns: the half of NbdAdapter (see nbd/adapter.h) that gives requests to the connection and makes
// completions of replies, and keeps the log of unflushed writes. The other half is in
// adapter_life.cc.
// Runs on the queue's thread.
// Must not: complete a request before every part of it was answered, or a change before the log
// has it.
#include "nbd/adapter.h"

#include <algorithm>
#include <cerrno>

#include "base/assert.h"
#include "nbd/unflushed_log.h"

namespace unbd {

using nbd::is_change;
using nbd::Part;
using nbd::Pending;
using nbd::RequestState;

namespace {

// The first few say what is wrong with a backend; a flood of them helps nobody.
constexpr unsigned kWarningsMax = 4;

LogKind log_kind_of(const Request& request) {
  if (request.op == Op::kWrite) return LogKind::kWrite;
  if (request.op == Op::kDiscard) return LogKind::kTrim;
  return request.no_unmap ? LogKind::kWriteZeroesNoHole : LogKind::kWriteZeroes;
}

uint64_t log_bytes_of(const Request& request) {
  return request.op == Op::kWrite ? request.length_bytes : 0;
}

}  // namespace

void NbdAdapter::submit(std::span<const Request> batch) {
  UN_ASSERT(ending_ == Ending::kNo);
  for (const Request& request : batch) {
    UN_ASSERT(request.tag < depth_);
    Pending pending{
        .request = request, .order = next_order_++, .has_reservation = false, .was_sent = false};
    if (state_ == State::kConnected) [[likely]] {
      dispatch(pending);
    } else if (state_ == State::kHolding) {
      waiting_.push(pending);
    } else {
      sink_->complete(request.tag, request.generation, -error_);
    }
  }
}

// Gives a request to the connection, answers it at once, or lets it wait.
void NbdAdapter::dispatch(Pending& pending) {
  const Request& request = pending.request;
  const int refused = connection_->refusal(request);
  if (refused < 0) [[unlikely]] {
    finish_unsent(pending, refused);
    return;
  }
  if (request.op == Op::kRead) {
    connection_->stage(pending, false).tick = tick_;
    return;
  }
  if (!admit(pending)) return;
  if (request.op == Op::kFlush) {
    RequestState& state = connection_->table().begin(pending);
    state.tick = tick_;
    stage_flush(state);
  } else {
    connection_->stage(pending, request.fua || durable_writes_).tick = tick_;
  }
}

// Whether a change or a FLUSH may go out; when not, it waits or was answered.
bool NbdAdapter::admit(Pending& pending) {
  const Request& request = pending.request;
  const bool is_flush = request.op == Op::kFlush;
  if (device_->fails_flushes() && (is_flush || request.fua) && device_->takes_blame()) {
    finish_unsent(pending, -EIO);
    return false;
  }
  if (is_flush) {
    if (connection_->agreement().can_flush) return true;
    // Without NBD_FLAG_SEND_FLUSH the backend promises that what it answered is as durable as it
    // gets. So nothing is kept in the log either.
    finish_unsent(pending, 0);
    return false;
  }
  if (log_ == nullptr || pending.has_reservation || !connection_->agreement().can_flush)
    return true;
  // Who waits is not overtaken by smaller ones.
  if (!log_is_full_ && log_->reserve(queue_, log_bytes_of(request))) [[likely]] {
    pending.has_reservation = true;
    return true;
  }
  log_is_full_ = true;
  waiting_.push(pending);
  return false;
}

// While connected: gives out what there is room for in the log, and sees to it that there will be
// more.
void NbdAdapter::dispatch_waiting() {
  while (!waiting_.is_empty()) {
    Pending& front = waiting_.front();
    if (!log_->reserve(queue_, log_bytes_of(front.request))) {
      // With nothing to flush it is requests in flight that take the room.
      if (!own_flush_in_flight_ && log_->live_bytes(queue_) > 0) stage_own_flush();
      return;
    }
    front.has_reservation = true;
    Pending pending = waiting_.pop();
    dispatch(pending);
  }
  log_is_full_ = false;
}

// Answers a request that no connection has: error is 0 or a negative errno.
void NbdAdapter::finish_unsent(const Pending& pending, int error) {
  if (pending.has_reservation) log_->release(queue_, log_bytes_of(pending.request));
  sink_->complete(pending.request.tag, pending.request.generation, error);
}

void NbdAdapter::stage_flush(RequestState& state) {
  state.covered_writes = volatile_writes_;
  state.covered_sequence = device_->sequence();
  connection_->stage_flush(state);
}

// A FLUSH that the kernel did not ask for.
void NbdAdapter::stage_own_flush() {
  Pending own{};
  own.request.tag = static_cast<uint16_t>(depth_);
  own.request.generation = own_generation_++;
  own.request.op = Op::kFlush;
  RequestState& state = connection_->table().begin(own);
  state.tick = tick_;
  own_flush_in_flight_ = true;
  stage_flush(state);
}

void NbdAdapter::own_flush_done(int error) {
  own_flush_in_flight_ = false;
  if (ending_ == Ending::kLastFlush) {
    if (error != 0) {
      warn("the backend refused the last FLUSH; it may not have kept all writes");
      ending_ = Ending::kGoodbye;
      connection_->say_goodbye();
    } else {
      advance_end();
    }
  } else if (error != 0) {
    // To wait on would be to ask again for ever.
    warn("the backend refused a FLUSH that would have made room for more unflushed writes");
    fail_waiting(error);
    log_is_full_ = false;
  }
}

void NbdAdapter::part_done(Part& part, int error) {
  RequestState& state = connection_->table().finish_part(part, error);
  if (state.parts_outstanding > 0) return;
  // Every part of the request was answered.
  const Request& request = state.request;
  if (request.op != Op::kRead && !change_done(state)) return;
  const int first_error = state.first_error;
  connection_->table().end(state);
  if (request.tag == depth_) [[unlikely]] {
    own_flush_done(first_error);
    return;
  }
  const bool counts_bytes =
      first_error == 0 && (request.op == Op::kRead || request.op == Op::kWrite);
  const int32_t result = counts_bytes ? static_cast<int32_t>(request.length_bytes) : first_error;
  sink_->complete(request.tag, request.generation, result);
}

// A change or a FLUSH was answered: keeps count of what only a FLUSH makes durable. False: it is
// not done yet.
bool NbdAdapter::change_done(RequestState& state) {
  const NbdAgreement& agreement = connection_->agreement();
  const bool succeeded = state.first_error == 0;
  if (!is_change(state.request) || state.flush_staged) {
    if (succeeded) {
      flushed_writes_ = std::max(flushed_writes_, state.covered_writes);
      device_->flushed(state.covered_sequence);
    }
  } else if (!state.is_durable || !agreement.can_fua) {
    ++volatile_writes_;
    if (state.is_durable && agreement.can_flush && succeeded) {
      // FUA where the backend has none: the writes, then a FLUSH, then the completion.
      state.flush_staged = true;
      stage_flush(state);
      return false;
    }
    if (device_->fails_flushes() && agreement.can_flush && succeeded) device_->acknowledged();
  }
  if (state.has_reservation) settle_reservation(state);
  return true;
}

// The log has a change before the kernel hears of it.
void NbdAdapter::settle_reservation(const RequestState& state) {
  const Request& request = state.request;
  if (state.first_error != 0) {
    log_->release(queue_, log_bytes_of(request));
    return;
  }
  log_->append(queue_, log_kind_of(request), request.offset_bytes, request.length_bytes,
               request.op == Op::kWrite ? request.buffer : nullptr);
  if (!own_flush_in_flight_ && log_->is_half_full(queue_)) stage_own_flush();
}

void NbdAdapter::warn(std::string_view text) {
  if (++warnings_ <= kWarningsMax) events_->post("warning", text);
}

}  // namespace unbd
