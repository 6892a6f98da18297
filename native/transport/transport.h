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

  // Stages on sqe a watch for bytes to receive: a CQE (IORING_CQE_F_MORE: others may follow) each
  // time that some arrive or the stream ends, until the SQE is cancelled. Its result is poll(2)'s
  // events: when one beside POLLIN is among them the stream's end or error comes behind the bytes
  // that are there. What was there before is told once, at the beginning.
  virtual void submit_recv_watch(io_uring_sqe* sqe) = 0;

  // Receives at once what is there, without waiting. Bytes (> 0; fewer than there is room for: that
  // was all, and a watch tells of more), 0 = end of stream, -EAGAIN or -errno.
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
