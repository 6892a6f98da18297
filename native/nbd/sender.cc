// Owns: the implementation of Sender (see sender.h).
// Runs on the queue's thread.
// Must not: allocate outside the constructor.
#include "nbd/sender.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <climits>

#include "base/assert.h"

namespace unbd::nbd {

Sender::Sender(size_t requests_max)
    : slots_(requests_max),
      iovecs_(std::bit_ceil(2 * requests_max)),
      headers_(std::make_unique_for_overwrite<RequestHeader[]>(slots_)),
      iov_(std::make_unique_for_overwrite<iovec[]>(iovecs_)) {
  UN_ASSERT(requests_max > 0);
}

uint64_t Sender::stage(const RequestHeader& header, const std::byte* payload,
                       size_t payload_bytes) {
  if (is_empty()) {
    next_slot_ = 0;
    first_ = 0;
    last_ = 0;
  }
  RequestHeader* const slot = &headers_[next_slot_];
  if (++next_slot_ == slots_) next_slot_ = 0;
  *slot = header;
  append(reinterpret_cast<const std::byte*>(slot), sizeof(header));
  if (payload_bytes > 0) append(payload, payload_bytes);
  return staged_bytes_;
}

void Sender::append(const std::byte* bytes, size_t length) {
  staged_bytes_ += length;
  // Headers without payloads between them lie one behind the other and leave as one iovec.
  if (!is_empty()) {
    iovec& previous = iov_[(last_ - 1) & (iovecs_ - 1)];
    if (static_cast<const std::byte*>(previous.iov_base) + previous.iov_len == bytes) {
      previous.iov_len += length;
      return;
    }
  }
  UN_ASSERT(last_ - first_ < iovecs_);
  iov_[last_ & (iovecs_ - 1)] = {const_cast<std::byte*>(bytes), length};
  ++last_;
}

int Sender::send(Transport& transport) {
  while (!is_empty()) {
    const size_t at = first_ & (iovecs_ - 1);
    const size_t count = std::min({last_ - first_, iovecs_ - at, size_t{IOV_MAX}});
    const ssize_t sent = transport.try_send(&iov_[at], static_cast<int>(count));
    if (sent < 0) return static_cast<int>(sent);
    const size_t offered_until = first_ + count;
    consume(static_cast<size_t>(sent));
    // A partial send: there is no more room, and the next call would only say so.
    if (first_ != offered_until) return -EAGAIN;
  }
  UN_ASSERT(sent_bytes_ == staged_bytes_);
  return 0;
}

void Sender::consume(size_t bytes) {
  sent_bytes_ += bytes;
  while (bytes > 0) {
    UN_ASSERT(!is_empty());
    iovec& front = iov_[first_ & (iovecs_ - 1)];
    if (bytes < front.iov_len) {
      front.iov_base = static_cast<std::byte*>(front.iov_base) + bytes;
      front.iov_len -= bytes;
      return;
    }
    bytes -= front.iov_len;
    ++first_;
  }
}

void Sender::discard() {
  first_ = last_;
  staged_bytes_ = sent_bytes_;
}

}  // namespace unbd::nbd
