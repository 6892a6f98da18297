// Owns: the claims about FdTransport on a ring: what a queue's thread relies on.
// Runs on the test's thread.
// Must not: wait without a limit.
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "ring/ring.h"
#include "test/check.h"
#include "transport/fd_transport.h"

using unbd::Fd;
using unbd::FdTransport;
using unbd::Ring;

namespace {

constexpr int kPatienceMs = 60'000;
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
    ring.reap([&](uint64_t user_data, int32_t result, uint32_t flags) {
      if (user_data != 1) return;
      taken = result;
      has_more = (flags & IORING_CQE_F_MORE) != 0;
      ++ended;
    });
    return taken;
  }

  void stage_watch() {
    io_uring_sqe* const sqe = ring.get_sqe();
    transport->submit_recv_watch(sqe);
    sqe->user_data = 1;
  }
  std::string take() {
    char bytes[64];
    const iovec iov{bytes, sizeof(bytes)};
    const ssize_t received = transport->try_recv(&iov, 1);
    return {bytes, received > 0 ? static_cast<size_t>(received) : 0};
  }

  Ring ring;
  int ended = 0;         // CQEs so far
  bool has_more = true;  // the SQE of the last one has not ended
  std::unique_ptr<FdTransport> transport;
  Fd backend;
};

}  // namespace

TEST("a watch tells of each arrival, with one SQE") {
  Pair pair;
  CHECK(::send(pair.backend.get(), "before", 6, 0) == 6);
  pair.stage_watch();
  for (const char* text : {"", "abcdefg", "hi"}) {
    const size_t length = std::strlen(text);
    if (length > 0) {
      CHECK(pair.next_result(0) == kNothing);
      CHECK(::send(pair.backend.get(), text, length, 0) == static_cast<ssize_t>(length));
    }
    CHECK(pair.next_result(kPatienceMs) > 0);
    CHECK(pair.has_more);
    CHECK(pair.take() == (length > 0 ? text : "before"));
  }
}

TEST("a watch tells of the stream's end, and of a shutdown of ours") {
  Pair ended;
  ended.stage_watch();
  CHECK(ended.next_result(0) == kNothing);
  ended.backend.reset();
  CHECK(ended.next_result(kPatienceMs) > 0);
  char byte = 0;
  const iovec iov{&byte, 1};
  CHECK(ended.transport->try_recv(&iov, 1) == 0);

  Pair shut;
  shut.stage_watch();
  CHECK(shut.next_result(0) == kNothing);
  shut.transport->shutdown();
  CHECK(shut.next_result(kPatienceMs) > 0);
  CHECK(shut.transport->try_recv(&iov, 1) == -ECANCELED);
}

TEST("a watch ends when it is cancelled, also while an event is on its way") {
  for (const bool event : {false, true}) {
    Pair pair;
    pair.stage_watch();
    CHECK(pair.next_result(0) == kNothing);
    if (event) pair.transport->reset();
    io_uring_sqe* const sqe = pair.ring.get_sqe();
    io_uring_prep_cancel64(sqe, 1, 0);
    while (pair.has_more)
      CHECK(pair.next_result(kPatienceMs) != kNothing);
  }
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

TEST("a reset drops what has not left, and ends the watch's and the sender's wait") {
  for (const bool tcp : {false, true}) {
    Pair pair(tcp);
    std::array<char, 65536> block{};
    const iovec iov{block.data(), block.size()};
    size_t accepted = 0;
    for (ssize_t sent = 0; sent >= 0; sent = pair.transport->try_send(&iov, 1))
      accepted += static_cast<size_t>(sent);
    pair.stage_watch();
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
