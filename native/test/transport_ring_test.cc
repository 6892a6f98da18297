// Owns: the claims about FdTransport on a ring: what a queue's thread relies on.
// Runs on the test's thread.
// Must not: wait without a limit.
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "ring/ring.h"
#include "test/check.h"
#include "transport/fd_transport.h"

using unbd::Fd;
using unbd::FdTransport;
using unbd::Ring;

namespace {

constexpr int kPatienceMs = 10'000;
constexpr int kNothing = INT32_MIN;

void make_tcp_pair(int* pair) {
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  sockaddr* const name = reinterpret_cast<sockaddr*>(&address);
  pair[0] = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::bind(listener.get(), name, length) != 0 || ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), name, &length) != 0 || ::connect(pair[0], name, length) != 0)
    std::abort();
  pair[1] = ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

struct Pair {
  explicit Pair(bool tcp = false) {
    int pair[2];
    if (tcp) {
      make_tcp_pair(pair);
    } else if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
      std::abort();
    }
    transport = std::make_unique<FdTransport>(Fd(pair[0]));
    backend = Fd(pair[1]);
    if (ring.init({}) != 0) std::abort();
  }

  // The result of the only CQE that comes within timeout_ms, or kNothing.
  int32_t next_result(int timeout_ms) {
    int32_t taken = kNothing;
    ring.submit_and_wait(timeout_ms);
    ring.reap([&](uint64_t user_data, int32_t result, uint32_t) {
      if (user_data != 1) return;
      taken = result;
      ++ended;
    });
    return taken;
  }

  void stage_recv(msghdr* message) {
    io_uring_sqe* const sqe = ring.get_sqe();
    transport->submit_recv(sqe, message);
    sqe->user_data = 1;
  }

  Ring ring;
  int ended = 0;  // CQEs so far
  std::unique_ptr<FdTransport> transport;
  Fd backend;
};

}  // namespace

TEST("a receive waits on a non-blocking socket and then gets what came") {
  for (const size_t iovecs : {size_t{1}, size_t{2}}) {
    Pair pair;
    std::array<char, 4> first{};
    std::array<char, 16> second{};
    iovec iov[2] = {{first.data(), first.size()}, {second.data(), second.size()}};
    msghdr message{};
    message.msg_iov = iov;
    message.msg_iovlen = iovecs;
    for (int round = 0; round < 3; ++round) {
      pair.stage_recv(&message);
      CHECK(pair.next_result(0) == kNothing);
      CHECK(::send(pair.backend.get(), "abcdefg", 7, 0) == 7);
      int32_t result = pair.next_result(kPatienceMs);
      if (iovecs == 1) {
        CHECK(pair.transport->finish_recv(result, &message) == 4);
        // The buffer was full, so the rest is asked for at once.
        pair.stage_recv(&message);
        result = pair.next_result(kPatienceMs);
        CHECK(pair.transport->finish_recv(result, &message) == 3);
        CHECK(std::memcmp(first.data(), "efg", 3) == 0);
      } else {
        CHECK(pair.transport->finish_recv(result, &message) == 7);
        CHECK(std::memcmp(first.data(), "abcd", 4) == 0);
        CHECK(std::memcmp(second.data(), "efg", 3) == 0);
      }
    }
  }
}

TEST("a receive ends with the stream, and with a shutdown of ours") {
  char byte = 0;
  iovec iov{&byte, 1};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  Pair ended;
  ended.stage_recv(&message);
  CHECK(ended.next_result(0) == kNothing);
  ended.backend.reset();
  CHECK(ended.transport->finish_recv(ended.next_result(kPatienceMs), &message) == 0);

  Pair shut;
  shut.stage_recv(&message);
  CHECK(shut.next_result(0) == kNothing);
  shut.transport->shutdown();
  CHECK(shut.transport->finish_recv(shut.next_result(kPatienceMs), &message) == -ECANCELED);
}

TEST("a send that finds no room is told when there is some") {
  Pair pair;
  std::array<char, 65536> block{};
  const iovec iov{block.data(), block.size()};
  ssize_t sent = 0;
  while (sent >= 0)
    sent = pair.transport->try_send(&iov, 1);
  CHECK(sent == -EAGAIN);
  io_uring_sqe* sqe = pair.ring.get_sqe();
  pair.transport->submit_send_ready(sqe);
  sqe->user_data = 1;
  CHECK(pair.next_result(0) == kNothing);
  while (::recv(pair.backend.get(), block.data(), block.size(), 0) > 0) {
  }
  CHECK(pair.next_result(kPatienceMs) >= 0);
  CHECK(pair.transport->try_send(&iov, 1) > 0);
}

TEST("a wait for room ends with a shutdown of ours") {
  Pair pair;
  std::array<char, 65536> block{};
  const iovec iov{block.data(), block.size()};
  while (pair.transport->try_send(&iov, 1) >= 0) {
  }
  io_uring_sqe* sqe = pair.ring.get_sqe();
  pair.transport->submit_send_ready(sqe);
  sqe->user_data = 1;
  CHECK(pair.next_result(0) == kNothing);
  pair.transport->shutdown();
  CHECK(pair.next_result(kPatienceMs) >= 0);
  CHECK(pair.transport->try_send(&iov, 1) == -ECANCELED);
}

TEST("a reset drops what has not left, and ends the receive and the wait for room") {
  for (const bool tcp : {false, true}) {
    Pair pair(tcp);
    char byte = 0;
    iovec to{&byte, 1};
    msghdr message{};
    message.msg_iov = &to;
    message.msg_iovlen = 1;
    std::array<char, 65536> block{};
    const iovec iov{block.data(), block.size()};
    size_t accepted = 0;
    for (ssize_t sent = 0; sent >= 0; sent = pair.transport->try_send(&iov, 1))
      accepted += static_cast<size_t>(sent);
    pair.stage_recv(&message);
    io_uring_sqe* sqe = pair.ring.get_sqe();
    pair.transport->submit_send_ready(sqe);
    sqe->user_data = 1;
    CHECK(pair.next_result(0) == kNothing);
    pair.transport->reset();
    while (pair.ended < 2)
      CHECK(pair.next_result(kPatienceMs) != kNothing);
    CHECK(pair.transport->try_send(&iov, 1) == -ECANCELED);
    size_t arrived = 0;
    ssize_t got = 0;
    while ((got = ::recv(pair.backend.get(), block.data(), block.size(), 0)) > 0)
      arrived += static_cast<size_t>(got);
    CHECK(tcp ? got < 0 && errno == ECONNRESET && arrived < accepted : got == 0);
  }
}

TEST("after the end of sending the backend sees the end, and can still answer") {
  Pair pair;
  char byte = 0;
  const iovec iov{&byte, 1};
  pair.transport->finish_sending();
  CHECK(::recv(pair.backend.get(), &byte, 1, 0) == 0);
  CHECK(::send(pair.backend.get(), "x", 1, 0) == 1);
  CHECK(pair.transport->try_recv(&iov, 1) == 1 && byte == 'x');
}

TEST("a send to a backend that is gone is an error, not a signal") {
  Pair pair;
  pair.backend.reset();
  const iovec iov[2] = {{const_cast<char*>("ab"), 2}, {const_cast<char*>("cd"), 2}};
  CHECK(pair.transport->try_send(iov, 1) == -EPIPE);
  CHECK(pair.transport->try_send(iov, 2) == -EPIPE);
}

TEST("what is there is received without waiting") {
  Pair pair;
  char bytes[8];
  const iovec iov[2] = {{bytes, 3}, {bytes + 3, 5}};
  CHECK(pair.transport->try_recv(iov, 2) == -EAGAIN);
  CHECK(::send(pair.backend.get(), "abcde", 5, 0) == 5);
  CHECK(pair.transport->try_recv(iov, 2) == 5);
  CHECK(std::memcmp(bytes, "abcde", 5) == 0);
  pair.backend.reset();
  CHECK(pair.transport->try_recv(iov, 2) == 0);
}

TEST_MAIN()
