// Owns: the part of Receiver (see receiver.h) that places received bytes, and simple replies.
// Structured replies are in receiver_chunks.cc.
// Runs on the queue's thread.
// Must not: read a struct from the stream before all of it is there.
#include "nbd/receiver.h"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "base/assert.h"

namespace unbd::nbd {

Receiver::Receiver(RequestTable& table, const Sender& sender, bool structured)
    : table_(table),
      sender_(sender),
      structured_(structured),
      staging_(std::make_unique_for_overwrite<std::byte[]>(kStagingBytes)) {}

std::span<const iovec> Receiver::prepare() {
  UN_ASSERT(at_ == 0 && outcome_ == Outcome::kGoOn);
  // Before a large payload only the header is taken, so that the payload itself need not be copied
  // out of staging; its own receive brings the next header with it.
  const size_t head_bytes =
      structured_ ? sizeof(StructuredReply) + sizeof(OffsetData) : sizeof(SimpleReply);
  const size_t beyond_payload = table_.expects_large_read() ? head_bytes : kStagingBytes;
  direct_ = phase_ == Phase::kPayload && payload_left_ >= kDirectBytes;
  if (direct_) {
    UN_ASSERT(end_ == 0);
    const bool more_may_follow = table_.parts_in_flight() > 1 || (structured_ && !last_chunk_);
    iov_[0] = {payload_, payload_left_};
    iov_[1] = {staging_.get(), beyond_payload};
    return {iov_, more_may_follow ? size_t{2} : size_t{1}};
  }
  const size_t payload = phase_ == Phase::kPayload ? payload_left_ : 0;
  const size_t until = std::min(payload + beyond_payload, kStagingBytes);
  UN_ASSERT(until > end_);
  iov_[0] = {staging_.get() + end_, until - end_};
  return {iov_, 1};
}

Receiver::Outcome Receiver::landed(size_t bytes) {
  if (direct_) {
    direct_ = false;
    const uint32_t direct_bytes = static_cast<uint32_t>(std::min<size_t>(bytes, payload_left_));
    bytes -= direct_bytes;
    payload_ += direct_bytes;
    payload_left_ -= direct_bytes;
    if (payload_left_ == 0) end_payload();
  }
  end_ += bytes;
  UN_ASSERT(end_ <= kStagingBytes);
  while (outcome_ == Outcome::kGoOn && step()) {
  }
  // What is left is less than a header.
  if (at_ > 0) {
    std::memmove(staging_.get(), staging_.get() + at_, available());
    end_ -= at_;
    at_ = 0;
  }
  return outcome_;
}

// Takes one piece of the stream; false when it is not all there, or the stream is broken.
bool Receiver::step() {
  switch (phase_) {
    case Phase::kReply:
      return take_reply();
    case Phase::kPayload:
      return take_payload();
    case Phase::kDataHead:
      return take_data_head();
    case Phase::kHole:
      return take_hole();
    case Phase::kErrorHead:
      return take_error_head();
    case Phase::kErrorText:
      return take_error_text();
    case Phase::kErrorOffset:
      return take_error_offset();
  }
  __builtin_unreachable();
}

bool Receiver::take_reply() {
  if (available() < sizeof(SimpleReply)) return false;
  const uint32_t magic = swap32(parse<uint32_t>(staging_.get() + at_));
  if (magic == kSimpleReplyMagic) return take_simple_reply();
  if (magic == kStructuredReplyMagic && structured_) return take_chunk();
  if (magic == kStructuredReplyMagic)
    return violation("it sent a structured reply although none were agreed on");
  return violation("its reply begins with 0x%08" PRIx32 ", which is no reply's magic", magic);
}

bool Receiver::take_simple_reply() {
  const SimpleReply reply = parse<SimpleReply>(staging_.get() + at_);
  if (!claim(swap64(reply.cookie))) return false;
  if (structured_) {
    if (part_->command == Command::kRead)
      return violation("it sent a simple reply to a READ although structured ones were agreed on");
    if (part_->chunks > 0)
      return violation("it sent a simple reply after chunks of a structured one");
  }
  at_ += sizeof(reply);
  if (reply.error != 0) {
    // No payload follows an error, not even a READ's.
    if (!note_error(swap32(reply.error))) return false;
  } else if (part_->command == Command::kRead) {
    last_chunk_ = true;
    expect_payload(part_->buffer, part_->length_bytes);
    return true;
  }
  finish_part();
  return true;
}

// Sets part_ to the request that a reply names.
bool Receiver::claim(uint64_t cookie) {
  part_ = table_.find(cookie);
  if (part_ == nullptr)
    return violation("it answered a request that is not in flight (cookie 0x%016" PRIx64 ")",
                     cookie);
  if (part_->sent_at_bytes > sender_.sent_bytes())
    return violation("it answered a request before all of it was sent");
  return true;
}

// Keeps the first error of a reply. False when the error ends the connection.
bool Receiver::note_error(uint32_t error) {
  if (error == kErrorShutdown) {
    outcome_ = Outcome::kBackendShutsDown;
    std::snprintf(reason_, sizeof(reason_), "the backend is shutting down");
    return false;
  }
  if (part_->error == 0) part_->error = errno_from_nbd(error);
  return true;
}

void Receiver::expect_payload(std::byte* to, uint32_t length_bytes) {
  payload_ = to;
  payload_left_ = length_bytes;
  phase_ = Phase::kPayload;
}

bool Receiver::take_payload() {
  const uint32_t bytes = static_cast<uint32_t>(std::min<size_t>(available(), payload_left_));
  if (bytes == 0) return false;
  std::memcpy(payload_, staging_.get() + at_, bytes);
  at_ += bytes;
  payload_ += bytes;
  payload_left_ -= bytes;
  if (payload_left_ == 0) end_payload();
  return true;
}

void Receiver::end_payload() {
  if (structured_) {
    end_chunk();
  } else {
    finish_part();
  }
}

void Receiver::finish_part() {
  Part& part = *part_;
  part_ = nullptr;
  phase_ = Phase::kReply;
  int error = part.error;
  if (structured_ && part.command == Command::kRead && error == 0 &&
      !part.coverage.is_complete(part.length_bytes)) {
    sink_->warn("the backend left a gap in its reply to a READ, which therefore failed");
    error = -EIO;
  }
  sink_->part_done(part, error);
}

bool Receiver::violation(const char* format, ...) {
  outcome_ = Outcome::kViolation;
  const int prefix =
      std::snprintf(reason_, sizeof(reason_), "the backend broke the NBD protocol: ");
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(reason_ + prefix, sizeof(reason_) - static_cast<size_t>(prefix), format,
                 arguments);
  va_end(arguments);
  return false;
}

}  // namespace unbd::nbd
