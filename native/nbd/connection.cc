// Owns: the half of NbdAdapter (see nbd/adapter.h) that is the connection: its place on the ring,
// its loss, its goodbye.
// Runs on the queue's thread.
// Must not: complete a request whose buffer a receive may still write to.
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/assert.h"
#include "nbd/adapter.h"
#include "ring/ring.h"
#include "ring/user_data.h"

namespace unbd {

namespace {

// Payloads of this adapter's user_data.
constexpr uint64_t kReceive = 1;
constexpr uint64_t kSendReady = 2;

// The first few say what is wrong with a backend; a flood of them helps nobody.
constexpr unsigned kWarningsMax = 4;

}  // namespace

int NbdAdapter::start(Ring& ring, CompletionSink& sink, EventSink& events) {
  UN_ASSERT(ring_ == nullptr);
  ring_ = &ring;
  sink_ = &sink;
  events_ = &events;
  arm_receive();
  return 0;
}

// A receive is always armed, also while nothing is in flight: it is how the end of the connection
// shows.
void NbdAdapter::arm_receive() {
  if (receive_in_flight_) return;
  io_uring_sqe* const sqe = ring_->get_sqe();
  config_.transport->submit_recv(sqe, receiver_.prepare());
  sqe->user_data = make_user_data(UserDataKind::kAdapter, kReceive);
  receive_in_flight_ = true;
}

void NbdAdapter::on_cqe(uint64_t payload, int32_t result, uint32_t flags) {
  if (payload == kReceive) {
    UN_ASSERT(receive_in_flight_);
    receive_in_flight_ = false;
    received(result);
  } else {
    UN_ASSERT(payload == kSendReady && send_ready_in_flight_);
    send_ready_in_flight_ = false;
  }
}

void NbdAdapter::end_turn() {
  if (error_ != 0) return;
  send();
  if (error_ == 0) arm_receive();
}

// All that the turn has staged leaves in one call. What does not fit waits for room, and all later
// requests behind it.
void NbdAdapter::send() {
  if (sender_.is_empty() || send_ready_in_flight_) return;
  const int result = sender_.send(*config_.transport);
  if (result == -EAGAIN) {
    io_uring_sqe* const sqe = ring_->get_sqe();
    config_.transport->submit_send_ready(sqe);
    sqe->user_data = make_user_data(UserDataKind::kAdapter, kSendReady);
    send_ready_in_flight_ = true;
  } else if (result < 0) {
    lose_by_errno(-result);
  } else if (phase_ == Phase::kGoodbye) {
    // A backend that does not act on DISC sees the end of the stream.
    config_.transport->finish_sending();
  }
}

void NbdAdapter::received(int32_t result) {
  if (error_ != 0) {
    fail_in_flight();
    return;
  }
  const ssize_t bytes = config_.transport->finish_recv(result, receiver_.message());
  if (bytes == -EAGAIN) return;
  if (bytes <= 0) {
    lose_by_errno(static_cast<int>(-bytes));
    return;
  }
  // After DISC the backend owes nothing; whatever it still says ends with its end of stream.
  if (phase_ == Phase::kGoodbye) return;
  switch (receiver_.landed(static_cast<size_t>(bytes))) {
    case nbd::Receiver::Outcome::kGoOn:
      break;
    case nbd::Receiver::Outcome::kViolation:
      lose("protocol-violation", receiver_.reason());
      break;
    case nbd::Receiver::Outcome::kBackendShutsDown:
      lose("backend-lost", receiver_.reason());
      break;
  }
}

// error is positive, or 0 at the end of the stream.
void NbdAdapter::lose_by_errno(int error) {
  if (error == 0) {
    lose("backend-lost", "the backend closed the connection");
    return;
  }
  char reason[128];
  const char* const name = ::strerrordesc_np(error);
  const int length =
      std::snprintf(reason, sizeof(reason), "the connection to the backend failed: %s",
                    name == nullptr ? "unknown error" : name);
  lose("backend-lost", {reason, static_cast<size_t>(length)});
}

// The single place where a connection is found to be lost.
void NbdAdapter::lose(std::string_view kind, std::string_view reason) {
  if (error_ != 0) return;
  if (phase_ != Phase::kGoodbye) events_->post(kind, reason);
  end_connection(EIO);
}

void NbdAdapter::fail_all(int error) {
  UN_ASSERT(error > 0);
  if (error_ == 0) {
    end_connection(error);
  } else {
    error_ = error;
  }
}

// From here on every request ends with error. Shutdown ends the SQEs in flight.
void NbdAdapter::end_connection(int error) {
  UN_ASSERT(error_ == 0);
  error_ = error;
  config_.transport->reset();
  sender_.discard();
  fail_in_flight();
}

// All but the one whose buffer the receive in flight writes to: that one ends with the receive.
void NbdAdapter::fail_in_flight() {
  if (table_.requests_in_flight() == 0) return;
  const nbd::Part* const landing = receive_in_flight_ ? receiver_.landing_part() : nullptr;
  for (unsigned tag = 0; tag < table_.tags(); ++tag) {
    nbd::RequestState& state = table_.state(tag);
    if (!state.in_flight || (landing != nullptr && landing->tag == tag)) continue;
    table_.end(state);
    if (tag < config_.depth) sink_->complete(state.request.tag, state.request.generation, -error_);
  }
}

void NbdAdapter::stop() {
  UN_ASSERT(phase_ == Phase::kServing);
  if (error_ != 0) return;
  UN_ASSERT(table_.requests_in_flight() == 0);
  if (config_.can_flush && volatile_writes_ != flushed_writes_) {
    phase_ = Phase::kLastFlush;
    Request flush{};
    flush.tag = static_cast<uint16_t>(config_.depth);
    flush.op = Op::kFlush;
    stage_flush(table_.begin(flush));
  } else {
    say_goodbye();
  }
  end_turn();
}

void NbdAdapter::say_goodbye() {
  phase_ = Phase::kGoodbye;
  config_.transport->close_gracefully_from_now_on();
  sender_.stage({.magic = nbd::swap32(nbd::kRequestMagic),
                 .flags = 0,
                 .type = nbd::swap16(static_cast<uint16_t>(nbd::Command::kDisc)),
                 .cookie = 0,
                 .offset = 0,
                 .length = 0},
                nullptr, 0);
}

bool NbdAdapter::stopped() const {
  return error_ != 0 && !receive_in_flight_ && !send_ready_in_flight_;
}

void NbdAdapter::warn(std::string_view text) {
  if (++warnings_ <= kWarningsMax) events_->post("warning", text);
}

}  // namespace unbd
