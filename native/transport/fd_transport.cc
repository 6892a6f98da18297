// Owns: the implementation of FdTransport (see fd_transport.h).
// Runs on one thread at a time; shutdown() on any.
// Must not: wait. Every call is told not to, whatever the socket's mode.
#include "transport/fd_transport.h"

#include <poll.h>

#include <cerrno>

namespace unbd {

namespace {

constexpr int kSendFlags = MSG_DONTWAIT | MSG_NOSIGNAL;

// Both calls are cheaper with one buffer than with a header and an array to import.
msghdr message_of(const iovec* iov, int count) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(iov);
  message.msg_iovlen = static_cast<size_t>(count);
  return message;
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
    sent = ::send(fd(), iov->iov_base, iov->iov_len, kSendFlags);
  } else {
    const msghdr message = message_of(iov, count);
    sent = ::sendmsg(fd(), &message, kSendFlags);
  }
  return sent > 0 ? sent : ended_by(sent == 0 ? -EAGAIN : -errno);
}

void FdTransport::submit_send_ready(io_uring_sqe* sqe) {
  io_uring_prep_poll_add(sqe, fd(), POLLOUT);
}

void FdTransport::submit_recv_watch(io_uring_sqe* sqe) {
  io_uring_prep_poll_multishot(sqe, fd(), POLLIN | POLLRDHUP);
}

ssize_t FdTransport::try_recv(const iovec* iov, int count) {
  ssize_t received = 0;
  if (count == 1) {
    received = ::recv(fd(), iov->iov_base, iov->iov_len, MSG_DONTWAIT);
  } else {
    msghdr message = message_of(iov, count);
    received = ::recvmsg(fd(), &message, MSG_DONTWAIT);
  }
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
