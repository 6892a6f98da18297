// Owns: the implementation of ReplayReplies (see replay_replies.h).
// Runs on replay_log()'s thread.
// Must not: take a piece of the stream before all of it is there.
#include "nbd/replay_replies.h"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "base/assert.h"
#include "base/errno_name.h"

namespace unbd::nbd {

using Outcome = ReplayResult::Outcome;

namespace {

// Above every tag of a queue, which is to own the connection next.
constexpr uint16_t kFirstTag = 0xff00;

}  // namespace

bool ReplayReplies::has_room_for(const ReplayRequest& request) const {
  return outstanding_ < kSlots && std::none_of(
                                      slots_.begin(), slots_.end(),
                                      [&](const Slot& slot) {
                                        return slot.cookie != kNoCookie &&
                                               slot.request.overlaps(request);
                                      });
}

uint64_t ReplayReplies::add(const ReplayRequest& request, uint64_t stream_end_bytes) {
  UN_ASSERT(has_room_for(request));
  unsigned index = 0;
  while (slots_[index].cookie != kNoCookie)
    ++index;
  const uint16_t tag = static_cast<uint16_t>(kFirstTag + index);
  slots_[index] = {.request = request,
                   .cookie = make_cookie(epoch_, next_generation_++, tag, 0),
                   .stream_end_bytes = stream_end_bytes};
  ++outstanding_;
  return slots_[index].cookie;
}

size_t ReplayReplies::receivable_bytes() const {
  UN_ASSERT(at_ == 0);
  size_t ours = outstanding_ * sizeof(SimpleReply);
  // What is left in the buffer is the begin of a piece, and the piece may be longer than the
  // shortest reply.
  if (filled_ >= sizeof(StructuredReply)) {
    const StructuredReply reply = parse<StructuredReply>(buffer_.data());
    const bool is_last = (swap16(reply.flags) & kReplyFlagDone) != 0;
    if (is_last) ours -= sizeof(SimpleReply);
    ours += sizeof(reply) + swap32(reply.length);
  } else if (filled_ >= sizeof(SimpleReply)) {
    ours += sizeof(StructuredReply) - sizeof(SimpleReply);
  }
  UN_ASSERT(ours >= filled_);
  return std::min(ours, kBufferBytes) - filled_;
}

bool ReplayReplies::received(size_t bytes, uint64_t sent_bytes) {
  filled_ += bytes;
  UN_ASSERT(filled_ <= kBufferBytes);
  sent_bytes_ = sent_bytes;
  while (step()) {
  }
  std::memmove(buffer_.data(), buffer_.data() + at_, available());
  filled_ -= at_;
  at_ = 0;
  return failure_.outcome == Outcome::kDone;
}

// Takes one piece of the stream; false when it is not all there, or the replay is over.
bool ReplayReplies::step() {
  if (available() < sizeof(SimpleReply)) return false;
  const uint32_t magic = swap32(parse<uint32_t>(buffer_.data() + at_));
  if (magic == kSimpleReplyMagic) return take_simple_reply();
  if (magic == kStructuredReplyMagic && structured_) return take_chunk();
  if (magic == kStructuredReplyMagic)
    return violation("it sent a structured reply although none were agreed on");
  return violation("its reply begins with 0x%08" PRIx32 ", which is no reply's magic", magic);
}

bool ReplayReplies::take_simple_reply() {
  const SimpleReply reply = parse<SimpleReply>(buffer_.data() + at_);
  Slot* const slot = claim(swap64(reply.cookie));
  if (slot == nullptr) return false;
  if (slot->chunks > 0) return violation("it sent a simple reply after chunks of a structured one");
  at_ += sizeof(reply);
  if (reply.error != 0 && !note_error(*slot, swap32(reply.error))) return false;
  return finish(*slot);
}

bool ReplayReplies::take_chunk() {
  if (available() < sizeof(StructuredReply)) return false;
  const StructuredReply reply = parse<StructuredReply>(buffer_.data() + at_);
  Slot* const slot = claim(swap64(reply.cookie));
  if (slot == nullptr || !judge_chunk(reply, *slot)) return false;
  if (available() - sizeof(reply) < swap32(reply.length)) return false;
  if (++slot->chunks > kChunksMax)
    return violation("it sent more than %" PRIu32 " chunks in one reply", kChunksMax);
  at_ += sizeof(reply);
  const bool is_error = (swap16(reply.type) & kReplyErrorBit) != 0;
  if (is_error && !take_error(reply, *slot)) return false;
  at_ += swap32(reply.length);
  return (swap16(reply.flags) & kReplyFlagDone) == 0 || finish(*slot);
}

// Bounds the chunk's length, before its payload is waited for.
bool ReplayReplies::judge_chunk(const StructuredReply& reply, const Slot& slot) {
  const uint16_t type = swap16(reply.type);
  const uint32_t length = swap32(reply.length);
  if (type == kReplyNone) {
    if (length == 0 && (swap16(reply.flags) & kReplyFlagDone) != 0) return true;
    return violation("it sent a chunk of type NONE with a payload or without the DONE flag");
  }
  if ((type & kReplyErrorBit) == 0)
    return violation("it sent a chunk of type %u in reply to a request of type %u", unsigned{type},
                     static_cast<unsigned>(slot.request.command));
  if (length >= sizeof(ErrorHead) && length <= kErrorChunkBytesMax) return true;
  return violation("it sent an error chunk of %" PRIu32 " bytes", length);
}

// An error chunk's payload, all of which is there.
bool ReplayReplies::take_error(const StructuredReply& reply, Slot& slot) {
  const std::byte* const payload = buffer_.data() + at_;
  const ErrorHead head = parse<ErrorHead>(payload);
  const uint16_t type = swap16(reply.type);
  const uint32_t text_bytes = swap16(head.message_length);
  const uint32_t rest_bytes = swap32(reply.length) - static_cast<uint32_t>(sizeof(head));
  const uint32_t tail_bytes = type == kReplyErrorOffset ? sizeof(uint64_t) : 0;
  const bool is_known = type == kReplyError || type == kReplyErrorOffset;
  if (text_bytes > kStringBytesMax || text_bytes > rest_bytes ||
      (is_known && text_bytes + tail_bytes != rest_bytes))
    return violation("it sent an error chunk whose lengths contradict each other");
  if (head.error == 0) return violation("it sent an error chunk without an error");
  if (type == kReplyErrorOffset) {
    const uint64_t at = swap64(parse<uint64_t>(payload + sizeof(head) + text_bytes));
    const ReplayRequest& request = slot.request;
    if (at < request.offset_bytes || at - request.offset_bytes >= request.length_bytes)
      return violation("it reported an error at offset %" PRIu64 ", outside the request", at);
  }
  return note_error(slot, swap32(head.error));
}

// The request that a reply names; null: a violation.
ReplayReplies::Slot* ReplayReplies::claim(uint64_t cookie) {
  const size_t index = static_cast<size_t>(cookie_tag(cookie)) - kFirstTag;
  if (cookie_tag(cookie) < kFirstTag || index >= kSlots || cookie == kNoCookie ||
      slots_[index].cookie != cookie) {
    violation("it answered a request that is not in flight (cookie 0x%016" PRIx64 ")", cookie);
    return nullptr;
  }
  if (slots_[index].stream_end_bytes > sent_bytes_) {
    violation("it answered a request before all of it was sent");
    return nullptr;
  }
  return &slots_[index];
}

// Keeps the first error of a reply. False when the error ends the connection.
bool ReplayReplies::note_error(Slot& slot, uint32_t error) {
  if (error == kErrorShutdown)
    return fail(Outcome::kLost, -ESHUTDOWN, "the backend is shutting down");
  if (slot.error == 0) slot.error = error;
  return true;
}

// The reply to slot's request is complete.
bool ReplayReplies::finish(Slot& slot) {
  slot.cookie = kNoCookie;
  --outstanding_;
  // A trim leaves the content open, so its failure breaks no promise.
  if (slot.error == 0 || slot.request.command == Command::kTrim) return true;
  const int error = errno_from_nbd(slot.error);
  char reason[160];
  std::snprintf(reason, sizeof(reason),
                "the backend refused with %s to take again what it had acknowledged before",
                errno_name(-error));
  return fail(Outcome::kRefused, error, reason);
}

bool ReplayReplies::fail(Outcome outcome, int error, const char* reason) {
  failure_ = {.outcome = outcome, .error = error, .reason = reason};
  return false;
}

bool ReplayReplies::violation(const char* format, ...) {
  char what[160];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(what, sizeof(what), format, arguments);
  va_end(arguments);
  char reason[240];
  std::snprintf(reason, sizeof(reason), "the backend broke the NBD protocol: %s", what);
  return fail(Outcome::kViolation, -EPROTO, reason);
}

}  // namespace unbd::nbd
