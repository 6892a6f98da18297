// Owns: Transport, the byte stream between us and a backend. Plain sockets now; TLS has the same
// shape. Runs on: one thread at a time. During the handshake the control plane's, through handshake
// I/O with a deadline; from the hand-over on the queue's thread only. Must not: read a byte that
// nobody asked for (so that a hand-over loses nothing), frame, or reconnect.
#pragma once

#include <liburing.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>
#include <memory>

namespace unbd {

class Transport {
 public:
  virtual ~Transport() = default;

  // Sends at once as much as fits, without waiting. Returns bytes (> 0), -EAGAIN, or another
  // -errno.
  virtual ssize_t try_send(const iovec* iov, int count) = 0;

  // Stages on sqe the wait for room to send; its CQE (any result >= 0) means: call try_send again.
  virtual void submit_send_ready(io_uring_sqe* sqe) = 0;

  // Stages on sqe a receive into message's iovecs. message and its iovecs stay valid and unmoved
  // until the CQE; its result goes through finish_recv.
  virtual void submit_recv(io_uring_sqe* sqe, msghdr* message) = 0;

  // The CQE of submit_recv: bytes received (> 0), 0 = end of stream, -EAGAIN = submit again, or
  // -errno.
  virtual ssize_t finish_recv(int32_t cqe_result, msghdr* message) = 0;

  // Receives at once what is there, without waiting. Bytes (> 0), 0 = end of stream, -EAGAIN or
  // -errno.
  virtual ssize_t try_recv(const iovec* iov, int count) = 0;

  // Wakes whoever waits in the kernel on this stream and makes later I/O fail; thread-safe.
  virtual void shutdown() = 0;

  // shutdown(), and what was sent and has not left yet is dropped where the socket's kind can do
  // that (TCP: a reset leaves at once, not only when the last SQE lets go of the socket).
  virtual void reset() = 0;

  // Turns off the reset on close (SO_LINGER {1,0}, set from the socket's creation on), so that what
  // was sent last, NBD_CMD_DISC, arrives. Only for a clean goodbye.
  virtual void close_gracefully_from_now_on() = 0;

  // Nothing will be sent any more: the backend sees the end of the stream behind what was sent.
  virtual void finish_sending() = 0;

  virtual int fd() const = 0;  // for poll(2) in the handshake and for diagnostics
};

}  // namespace unbd
