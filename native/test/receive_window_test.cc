// Owns: the claims about widen_receive_window(): there is room at once, and one byte still wakes.
// Runs on: the test's thread.
// Must not: leave the machine.
#include "transport/receive_window.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/fd.h"
#include "test/check.h"

using unbd::Fd;
using unbd::widen_receive_window;

namespace {

constexpr int kMib = 1 << 20;
constexpr int kPatienceMs = 60'000;

struct Pair {
  Fd ours;
  Fd theirs;
};

void connect(Pair* pair) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* const name = reinterpret_cast<sockaddr*>(&address);
  Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK(::bind(listener.get(), name, length) == 0 && ::listen(listener.get(), 1) == 0);
  CHECK(::getsockname(listener.get(), name, &length) == 0);
  pair->ours = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK(::connect(pair->ours.get(), name, length) == 0);
  pair->theirs = Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  CHECK(pair->theirs.valid());
}

int option(const Fd& fd, int name) {
  int value = -1;
  socklen_t length = sizeof(value);
  return ::getsockopt(fd.get(), SOL_SOCKET, name, &value, &length) == 0 ? value : -1;
}

}  // namespace

TEST("a widened connection has the room at once, and its reader is woken by one byte") {
  Pair pair;
  connect(&pair);
  CHECK(pair.theirs.valid());
  CHECK(option(pair.ours, SO_RCVBUF) < kMib);
  CHECK(widen_receive_window(pair.ours.get(), kMib) == 0);
  CHECK(option(pair.ours, SO_RCVBUF) >= kMib);
  CHECK(option(pair.ours, SO_RCVLOWAT) == 1);
  pollfd readable{.fd = pair.ours.get(), .events = POLLIN, .revents = 0};
  CHECK(::poll(&readable, 1, 0) == 0);
  CHECK(::send(pair.theirs.get(), "x", 1, MSG_NOSIGNAL) == 1);
  CHECK(::poll(&readable, 1, kPatienceMs) == 1);
}

TEST("what is no socket is refused") {
  CHECK(widen_receive_window(-1, kMib) == -EBADF);
}

TEST_MAIN()
