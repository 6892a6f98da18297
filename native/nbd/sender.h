// Owns: Sender, the bytes on their way to the backend: request headers, and the payloads of writes
// where they lie.
// Runs on: the queue's thread.
// Must not: copy a payload, interleave two requests, allocate after construction, or wait.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "nbd/wire.h"
#include "transport/transport.h"

namespace unbd::nbd {

class Sender {
 public:
  // At most requests_max requests are staged, or sent and unanswered, at any time; that is what
  // bounds the storage.
  explicit Sender(size_t requests_max);

  // Puts a request behind all that is staged. payload is null or stays valid and unchanged until it
  // is sent. Returns the position in the stream after its last byte.
  uint64_t stage(const RequestHeader& header, const std::byte* payload, size_t payload_bytes);

  // Sends what fits, in as few calls as it takes, without waiting.
  // Returns 0: all is out; -EAGAIN: the rest waits for room; or another -errno.
  int send(Transport& transport);

  // Forgets what is staged.
  void discard();

  bool is_empty() const { return first_ == last_; }
  // Position in the stream up to which the bytes were handed to the transport.
  uint64_t sent_bytes() const { return sent_bytes_; }

 private:
  void append(const std::byte* bytes, size_t length);
  void consume(size_t bytes);

  // Two rings, both begun afresh whenever all is out. first_ and last_ count iovecs since then.
  size_t slots_;   // headers
  size_t iovecs_;  // a power of two
  size_t next_slot_ = 0;
  size_t first_ = 0;
  size_t last_ = 0;
  uint64_t staged_bytes_ = 0;
  uint64_t sent_bytes_ = 0;
  std::unique_ptr<RequestHeader[]> headers_;
  std::unique_ptr<iovec[]> iov_;
};

}  // namespace unbd::nbd
