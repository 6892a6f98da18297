// Owns: the implementation of Connection (see nbd/connection.h).
// Runs on the queue's thread.
// Must not: complete a request; replies go to the owner, part by part.
#include "nbd/connection.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/assert.h"
#include "ring/ring.h"
#include "ring/user_data.h"

namespace unbd::nbd {

namespace {

constexpr uint64_t kWatchUserData = make_user_data(UserDataKind::kAdapter, kReceivePayload);

uint32_t align_down(uint32_t value, uint32_t alignment) {
  return std::max(value / alignment * alignment, alignment);
}

// The most bytes in one part of a request with a payload, and of one without.
uint32_t payload_max(const NbdAgreement& agreement) {
  return align_down(agreement.maximum_block_bytes, std::max(agreement.minimum_block_bytes, 1U));
}
uint32_t range_max(const NbdAgreement& agreement) {
  return align_down(UINT32_MAX, std::max(agreement.minimum_block_bytes, 1U));
}

// The kernel's requests without a payload are shorter than 4 GiB and thus two parts at most.
unsigned parts_max(const NbdAgreement& agreement, uint32_t maximum_request_bytes) {
  const uint32_t part = payload_max(agreement);
  const uint64_t parts = (uint64_t{maximum_request_bytes} + part - 1) / part;
  return static_cast<unsigned>(std::max<uint64_t>(parts, 2));
}

bool has_payload(Op op) {
  return op == Op::kRead || op == Op::kWrite;
}

Command command_of(Op op) {
  switch (op) {
    case Op::kRead:
      return Command::kRead;
    case Op::kWrite:
      return Command::kWrite;
    case Op::kFlush:
      return Command::kFlush;
    case Op::kDiscard:
      return Command::kTrim;
    case Op::kWriteZeroes:
      return Command::kWriteZeroes;
  }
  __builtin_unreachable();
}

}  // namespace

// The table's last tag is the adapter's own, for FLUSHes that the kernel did not ask for; the
// sender has room for DISC.
Connection::Connection(const NbdDeviceConfig& device, const NbdAgreement& agreement,
                       std::unique_ptr<Transport> transport)
    : agreement_(agreement),
      maximum_request_bytes_(device.maximum_request_bytes),
      read_only_(device.read_only),
      transport_(std::move(transport)),
      table_(device.depth + 1, parts_max(agreement, maximum_request_bytes_),
             std::min(payload_max(agreement), maximum_request_bytes_), agreement.epoch),
      sender_(table_.parts_total() + 1),
      receiver_(table_, sender_, agreement.structured_replies) {
  UN_ASSERT(transport_ != nullptr);
}

void Connection::start(Ring& ring, ConnectionOwner& owner) {
  UN_ASSERT(ring_ == nullptr);
  ring_ = &ring;
  owner_ = &owner;
  receiver_.attach(owner);
  watch();
}

int Connection::refusal(const Request& request) const {
  if (request.op == Op::kFlush) return 0;
  if (request.op != Op::kRead && read_only_) return -EROFS;
  if (request.op == Op::kDiscard && !agreement_.can_trim) return -EOPNOTSUPP;
  if (request.op == Op::kWriteZeroes && !agreement_.can_write_zeroes) return -EOPNOTSUPP;
  const uint64_t bytes_max = has_payload(request.op)
                                 ? uint64_t{maximum_request_bytes_}
                                 : uint64_t{range_max(agreement_)} * table_.parts_max();
  return request.length_bytes == 0 || request.length_bytes > bytes_max ? -EINVAL : 0;
}

RequestState& Connection::stage(const Pending& pending, bool is_durable) {
  RequestState& state = table_.begin(pending);
  const Request& request = state.request;
  const Command command = command_of(request.op);
  UN_ASSERT(command != Command::kFlush);
  uint16_t flags = 0;
  if (is_durable && agreement_.can_fua) flags |= kCmdFlagFua;
  if (request.no_unmap && command == Command::kWriteZeroes) flags |= kCmdFlagNoHole;
  state.is_durable = is_durable;
  const uint64_t part_bytes =
      has_payload(request.op) ? payload_max(agreement_) : range_max(agreement_);
  for (uint64_t done = 0; done < request.length_bytes;) {
    const uint32_t length =
        static_cast<uint32_t>(std::min(request.length_bytes - done, part_bytes));
    std::byte* const buffer = request.buffer == nullptr ? nullptr : request.buffer + done;
    stage_part(table_.add_part(state, command, request.offset_bytes + done, length, buffer), flags);
    done += length;
  }
  return state;
}

void Connection::stage_flush(RequestState& state) {
  stage_part(table_.add_part(state, Command::kFlush, 0, 0, nullptr), 0);
}

void Connection::stage_part(Part& part, uint16_t flags) {
  const bool is_write = part.command == Command::kWrite;
  part.sent_at_bytes =
      sender_.stage({.magic = swap32(kRequestMagic),
                     .flags = swap16(flags),
                     .type = swap16(static_cast<uint16_t>(part.command)),
                     .cookie = swap64(part.cookie),
                     .offset = swap64(part.offset_bytes),
                     .length = swap32(part.length_bytes)},
                    is_write ? part.buffer : nullptr, is_write ? part.length_bytes : 0);
}

// One SQE for the connection's life: cheaper for each reply than a receive that is staged, armed
// and ended; and no buffer is written to but by receive().
void Connection::watch() {
  io_uring_sqe* const sqe = ring_->get_sqe();
  transport_->submit_recv_watch(sqe);
  sqe->user_data = kWatchUserData;
  watch_in_flight_ = true;
}

void Connection::on_cqe(uint64_t payload, int32_t result, uint32_t flags) {
  if (payload == kReceivePayload) {
    UN_ASSERT(watch_in_flight_);
    watch_in_flight_ = (flags & IORING_CQE_F_MORE) != 0;
    if (is_over_) return;
    if (result < 0) {
      lose_by_errno(-result);
      return;
    }
    if ((result & ~POLLIN) != 0) stream_ends_ = true;
    receive();
  } else if (payload == kReceiveMorePayload) {
    UN_ASSERT(receive_more_in_flight_);
    receive_more_in_flight_ = false;
    if (!is_over_) receive();
  } else {
    UN_ASSERT(payload == kSendReadyPayload && send_ready_in_flight_);
    send_ready_in_flight_ = false;
  }
}

// Once an event, so that requests and commands have their turn too, however fast the backend sends.
void Connection::receive() {
  const std::span<const iovec> iov = receiver_.prepare();
  size_t room = 0;
  for (const iovec& each : iov)
    room += each.iov_len;
  const ssize_t bytes = transport_->try_recv(iov.data(), static_cast<int>(iov.size()));
  if (bytes == -EAGAIN) return;
  received(bytes);
  if (!is_over_ && (static_cast<size_t>(bytes) == room || stream_ends_)) receive_more();
}

// The watch tells of what arrives, not of bytes that were left, or of an end behind them.
void Connection::receive_more() {
  if (receive_more_in_flight_) return;
  io_uring_sqe* const sqe = ring_->get_sqe();
  io_uring_prep_nop(sqe);
  sqe->user_data = make_user_data(UserDataKind::kAdapter, kReceiveMorePayload);
  receive_more_in_flight_ = true;
}

void Connection::end_turn() {
  if (is_over_) return;
  send();
  if (!is_over_ && !watch_in_flight_) [[unlikely]]
    watch();
}

void Connection::send() {
  if (sender_.is_empty() || send_ready_in_flight_) return;
  const int result = sender_.send(*transport_);
  if (result == -EAGAIN) {
    io_uring_sqe* const sqe = ring_->get_sqe();
    transport_->submit_send_ready(sqe);
    sqe->user_data = make_user_data(UserDataKind::kAdapter, kSendReadyPayload);
    send_ready_in_flight_ = true;
  } else if (result < 0) {
    lose_by_errno(-result);
  } else if (says_goodbye_) {
    // A backend that does not act on DISC sees the end of the stream.
    transport_->finish_sending();
  }
}

void Connection::received(ssize_t bytes) {
  if (bytes <= 0) {
    lose_by_errno(static_cast<int>(-bytes));
    return;
  }
  // After DISC the backend owes nothing; whatever it still says ends with its end of stream.
  if (says_goodbye_) return;
  switch (receiver_.landed(static_cast<size_t>(bytes))) {
    case Receiver::Outcome::kGoOn:
      break;
    case Receiver::Outcome::kViolation:
      owner_->lost("protocol-violation", receiver_.reason());
      break;
    case Receiver::Outcome::kBackendShutsDown:
      owner_->lost("backend-lost", receiver_.reason());
      break;
  }
}

// error is positive, or 0 at the end of the stream.
void Connection::lose_by_errno(int error) {
  if (error == 0) {
    owner_->lost("backend-lost", "the backend closed the connection");
    return;
  }
  char reason[128];
  const char* const name = ::strerrordesc_np(error);
  const int length =
      std::snprintf(reason, sizeof(reason), "the connection to the backend failed: %s",
                    name == nullptr ? "unknown error" : name);
  owner_->lost("backend-lost", {reason, static_cast<size_t>(length)});
}

void Connection::say_goodbye() {
  says_goodbye_ = true;
  transport_->close_gracefully_from_now_on();
  sender_.stage({.magic = swap32(kRequestMagic),
                 .flags = 0,
                 .type = swap16(static_cast<uint16_t>(Command::kDisc)),
                 .cookie = 0,
                 .offset = 0,
                 .length = 0},
                nullptr, 0);
}

void Connection::reset() {
  if (is_over_) return;
  is_over_ = true;
  transport_->reset();
  sender_.discard();
  if (!watch_in_flight_) return;
  io_uring_sqe* const sqe = ring_->get_sqe();
  // Not POLL_REMOVE: that fails with EALREADY while an event is on its way.
  io_uring_prep_cancel64(sqe, kWatchUserData, 0);
  sqe->user_data = make_user_data(UserDataKind::kIgnored, 0);
}

}  // namespace unbd::nbd
