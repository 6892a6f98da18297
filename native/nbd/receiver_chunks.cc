// Owns: the part of Receiver (see receiver.h) that takes structured replies, chunk by chunk.
// Runs on the queue's thread.
// Must not: use an offset or a length of the backend's in an addition before it is bounded.
#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "base/assert.h"
#include "nbd/receiver.h"

namespace unbd::nbd {

namespace {

// More chunks than this in one reply only keep us busy: one for every sector, and some for errors.
uint32_t chunks_max(const Part& part) {
  return part.length_bytes / 512 + 16;
}

}  // namespace

bool Receiver::take_chunk() {
  if (available() < sizeof(StructuredReply)) return false;
  const StructuredReply reply = parse<StructuredReply>(staging_.get() + at_);
  if (!claim(swap64(reply.cookie))) return false;
  at_ += sizeof(reply);
  return begin_chunk(reply);
}

// Bounds the chunk's length before a byte of its payload is taken.
bool Receiver::begin_chunk(const StructuredReply& reply) {
  const uint32_t length = swap32(reply.length);
  chunk_type_ = swap16(reply.type);
  last_chunk_ = (swap16(reply.flags) & kReplyFlagDone) != 0;
  chunk_left_ = length;
  if (++part_->chunks > chunks_max(*part_))
    return violation("it sent more than %" PRIu32 " chunks in one reply", chunks_max(*part_));

  const bool is_read = part_->command == Command::kRead;
  if (chunk_type_ == kReplyOffsetData && is_read) {
    if (length <= sizeof(OffsetData) || length - sizeof(OffsetData) > part_->length_bytes)
      return violation("it sent a data chunk of %" PRIu32 " bytes in reply to a READ of %" PRIu32,
                       length, part_->length_bytes);
    phase_ = Phase::kDataHead;
    return true;
  }
  if (chunk_type_ == kReplyNone) {
    if (length != 0 || !last_chunk_)
      return violation("it sent a chunk of type NONE with a payload or without the DONE flag");
    finish_part();
    return true;
  }
  if (chunk_type_ == kReplyOffsetHole && is_read) {
    if (length != sizeof(OffsetHole))
      return violation("it sent a hole chunk of %" PRIu32 " bytes", length);
    phase_ = Phase::kHole;
    return true;
  }
  if ((chunk_type_ & kReplyErrorBit) != 0) {
    if (length < sizeof(ErrorHead) || length > kErrorChunkBytesMax)
      return violation("it sent an error chunk of %" PRIu32 " bytes", length);
    phase_ = Phase::kErrorHead;
    return true;
  }
  return violation("it sent a chunk of type %u in reply to a request of type %u",
                   unsigned{chunk_type_}, static_cast<unsigned>(part_->command));
}

bool Receiver::take_data_head() {
  if (available() < sizeof(OffsetData)) return false;
  const uint64_t offset = swap64(parse<OffsetData>(staging_.get() + at_).offset);
  at_ += sizeof(OffsetData);
  const uint32_t length = chunk_left_ - static_cast<uint32_t>(sizeof(OffsetData));
  if (!cover(offset, length)) return false;
  expect_payload(part_->buffer + (offset - part_->offset_bytes), length);
  return true;
}

bool Receiver::take_hole() {
  if (available() < sizeof(OffsetHole)) return false;
  const OffsetHole hole = parse<OffsetHole>(staging_.get() + at_);
  at_ += sizeof(hole);
  const uint64_t offset = swap64(hole.offset);
  const uint32_t size = swap32(hole.size);
  if (size == 0) return violation("it sent a hole of 0 bytes");
  if (!cover(offset, size)) return false;
  std::memset(part_->buffer + (offset - part_->offset_bytes), 0, size);
  end_chunk();
  return true;
}

// Marks a range as there. It lies within the READ, and nothing of it came before.
bool Receiver::cover(uint64_t offset_bytes, uint32_t length_bytes) {
  const uint64_t relative = offset_bytes - part_->offset_bytes;
  if (offset_bytes < part_->offset_bytes || relative >= part_->length_bytes ||
      length_bytes > part_->length_bytes - relative)
    return violation("it sent data for offset %" PRIu64 ", outside the READ that it answers",
                     offset_bytes);
  switch (part_->coverage.add(static_cast<uint32_t>(relative), length_bytes,
                              table_.intervals(*part_))) {
    case Coverage::Added::kNew:
      return true;
    case Coverage::Added::kOverlap:
      return violation("it sent the data at offset %" PRIu64 " twice", offset_bytes);
    case Coverage::Added::kTooScattered:
      return violation("it sent the data of one READ in too many scattered chunks");
  }
  __builtin_unreachable();
}

bool Receiver::take_error_head() {
  if (available() < sizeof(ErrorHead)) return false;
  const ErrorHead head = parse<ErrorHead>(staging_.get() + at_);
  at_ += sizeof(head);
  chunk_left_ -= static_cast<uint32_t>(sizeof(head));
  const uint32_t text_bytes = swap16(head.message_length);
  const bool has_offset = chunk_type_ == kReplyErrorOffset;
  const bool is_known = has_offset || chunk_type_ == kReplyError;
  const uint32_t tail_bytes = has_offset ? sizeof(uint64_t) : 0;
  if (head.error == 0) return violation("it sent an error chunk with error 0");
  if (text_bytes > kStringBytesMax || text_bytes > chunk_left_ ||
      (is_known && text_bytes + tail_bytes != chunk_left_))
    return violation("it sent an error chunk whose message of %" PRIu32 " bytes does not fit it",
                     text_bytes);
  if (!note_error(swap32(head.error))) return false;
  // An error chunk of a type that we do not know may carry more; all of it is taken as text.
  text_left_ = chunk_left_ - tail_bytes;
  text_kept_ = 0;
  phase_ = Phase::kErrorText;
  return true;
}

bool Receiver::take_error_text() {
  if (text_left_ > 0) {
    const uint32_t bytes = static_cast<uint32_t>(std::min<size_t>(available(), text_left_));
    if (bytes == 0) return false;
    const uint32_t kept = std::min<uint32_t>(bytes, kTextKept - text_kept_);
    std::memcpy(text_ + text_kept_, staging_.get() + at_, kept);
    text_kept_ += kept;
    text_left_ -= bytes;
    at_ += bytes;
    if (text_left_ > 0) return false;
  }
  if (text_kept_ > 0) report_error_text();
  if (chunk_type_ == kReplyErrorOffset) {
    phase_ = Phase::kErrorOffset;
  } else {
    end_chunk();
  }
  return true;
}

void Receiver::report_error_text() {
  for (uint32_t index = 0; index < text_kept_; ++index) {
    char& character = text_[index];
    if (character < ' ' || character > '~') character = '?';
  }
  char text[kTextKept + 64];
  const int length = std::snprintf(text, sizeof(text), "the backend refused a request: %.*s",
                                   static_cast<int>(text_kept_), text_);
  UN_ASSERT(length > 0 && static_cast<size_t>(length) < sizeof(text));
  sink_->warn({text, static_cast<size_t>(length)});
}

bool Receiver::take_error_offset() {
  if (available() < sizeof(uint64_t)) return false;
  const uint64_t offset = swap64(parse<uint64_t>(staging_.get() + at_));
  at_ += sizeof(offset);
  if (offset < part_->offset_bytes || offset - part_->offset_bytes >= part_->length_bytes)
    return violation("it reported an error at offset %" PRIu64 ", outside the request", offset);
  end_chunk();
  return true;
}

void Receiver::end_chunk() {
  phase_ = Phase::kReply;
  if (last_chunk_) {
    finish_part();
  } else {
    part_ = nullptr;
  }
}

}  // namespace unbd::nbd
