// Owns: the implementation of FdTransport (see fd_transport.h).
// Runs on one thread at a time; shutdown() on any.
// Must not: wait. Every call is told not to, whatever the socket's mode.
#include "transport/fd_transport.h"

#include <poll.h>

#include <cerrno>

namespace unbd {

namespace {

constexpr int kSendFlags = MSG_DONTWAIT | MSG_NOSIGNAL;

size_t total_bytes(const msghdr* message) {
  size_t total = 0;
  for (size_t index = 0; index < message->msg_iovlen; ++index)
    total += message->msg_iov[index].iov_len;
  return total;
}

}  // namespace

// Tells what a shutdown() of ours has ended from what the backend has ended.
ssize_t FdTransport::ended_by(ssize_t result) const {
  if (result == -EINTR || result == -EWOULDBLOCK) return -EAGAIN;
  return is_shut_down() ? -ECANCELED : result;
}

ssize_t FdTransport::try_send(const iovec* iov, int count) {
  ssize_t sent = 0;
  if (count == 1) {
    // Cheaper than sendmsg(2) by the import of a header and of an array.
    sent = ::send(fd(), iov->iov_base, iov->iov_len, kSendFlags);
  } else {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(iov);
    message.msg_iovlen = static_cast<size_t>(count);
    sent = ::sendmsg(fd(), &message, kSendFlags);
  }
  return sent > 0 ? sent : ended_by(sent == 0 ? -EAGAIN : -errno);
}

void FdTransport::submit_send_ready(io_uring_sqe* sqe) {
  io_uring_prep_poll_add(sqe, fd(), POLLOUT);
}

void FdTransport::submit_recv(io_uring_sqe* sqe, msghdr* message) {
  if (message->msg_iovlen == 1) {
    io_uring_prep_recv(sqe, fd(), message->msg_iov->iov_base, message->msg_iov->iov_len, 0);
  } else {
    io_uring_prep_recvmsg(sqe, fd(), message, 0);
  }
  // Where nothing is expected to be there yet, saves the attempt that fails.
  if (drained_) sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
}

ssize_t FdTransport::finish_recv(int32_t cqe_result, msghdr* message) {
  if (cqe_result <= 0) return ended_by(cqe_result);
  drained_ = static_cast<size_t>(cqe_result) < total_bytes(message);
  return cqe_result;
}

ssize_t FdTransport::try_recv(const iovec* iov, int count) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(iov);
  message.msg_iovlen = static_cast<size_t>(count);
  const ssize_t received = ::recvmsg(fd(), &message, MSG_DONTWAIT);
  return received > 0 ? received : ended_by(received == 0 ? 0 : -errno);
}

void FdTransport::shutdown() {
  shut_down_.store(true, std::memory_order_release);
  ::shutdown(fd(), SHUT_RDWR);
}

void FdTransport::reset() {
  shut_down_.store(true, std::memory_order_release);
  // Dissolves a TCP connection on the spot; other sockets refuse it, and are only shut down.
  const sockaddr nobody{.sa_family = AF_UNSPEC, .sa_data = {}};
  ::connect(fd(), &nobody, sizeof(nobody));
  ::shutdown(fd(), SHUT_RDWR);
}

void FdTransport::close_gracefully_from_now_on() {
  const linger off{.l_onoff = 0, .l_linger = 0};
  ::setsockopt(fd(), SOL_SOCKET, SO_LINGER, &off, sizeof(off));
}

void FdTransport::finish_sending() {
  ::shutdown(fd(), SHUT_WR);
}

}  // namespace unbd
