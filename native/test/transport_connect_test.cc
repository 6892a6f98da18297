// Owns: the claims about connections and handshake I/O: every kind of socket, its options, its
// deadline, and that another thread can end it at once.
// Runs on: the test's thread, and a second one where a claim is about two.
// Must not: resolve a name or leave the machine.
#include "transport/connect.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "test/check.h"

using unbd::connect_endpoint;
using unbd::connect_transport;
using unbd::Endpoint;
using unbd::Fd;
using unbd::FdTransport;
using unbd::open_endpoint;
using unbd::recv_exactly;
using unbd::send_all;
using unbd::Transport;

namespace {

constexpr int kPatienceMs = 60'000;

struct Listener {
  Fd socket;
  Endpoint endpoint;
};

Listener listen_at(const sockaddr* address, socklen_t length, int backlog) {
  Listener listener;
  listener.socket = Fd(::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::bind(listener.socket.get(), address, length) != 0 ||
      ::listen(listener.socket.get(), backlog) != 0)
    listener.socket.reset();
  return listener;
}

Listener listen_tcp4(int backlog = 8) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  Listener listener = listen_at(reinterpret_cast<sockaddr*>(&address), length, backlog);
  ::getsockname(listener.socket.get(), reinterpret_cast<sockaddr*>(&address), &length);
  listener.endpoint = {.address = "127.0.0.1", .port = ntohs(address.sin_port)};
  return listener;
}

Listener listen_tcp6() {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  socklen_t length = sizeof(address);
  Listener listener = listen_at(reinterpret_cast<sockaddr*>(&address), length, 8);
  ::getsockname(listener.socket.get(), reinterpret_cast<sockaddr*>(&address), &length);
  listener.endpoint = {.address = "::1", .port = ntohs(address.sin6_port)};
  return listener;
}

// path begins with a NUL byte for an abstract name.
Listener listen_unix(const std::string& path, int backlog = 8) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const size_t length = offsetof(sockaddr_un, sun_path) + path.size() + (path[0] == '\0' ? 0 : 1);
  Listener listener =
      listen_at(reinterpret_cast<sockaddr*>(&address), static_cast<socklen_t>(length), backlog);
  listener.endpoint = {.kind = Endpoint::Kind::kUnix, .path = path};
  return listener;
}

std::string abstract_name() {
  return std::string(1, '\0') + "unbd-transport-test-" + std::to_string(::getpid());
}

std::vector<std::byte> bytes_of(const std::string& text) {
  const std::byte* first = reinterpret_cast<const std::byte*>(text.data());
  return {first, first + text.size()};
}

int option_of(int fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof(value);
  ::getsockopt(fd, level, name, &value, &length);
  return value;
}

// A greeting in, an answer out, over a fresh connection.
void expect_conversation(const Listener& listener) {
  CHECK(listener.socket.valid());
  std::unique_ptr<Transport> transport;
  CHECK(connect_endpoint(listener.endpoint, kPatienceMs, &transport) == 0);
  const Fd backend(::accept4(listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
  CHECK(::send(backend.get(), "NBDMAGICrest", 12, 0) == 12);
  std::vector<std::byte> greeting(8);
  CHECK(recv_exactly(*transport, greeting, kPatienceMs) == 0);
  CHECK(greeting == bytes_of("NBDMAGIC"));
  // What follows is still in the socket, for whoever reads it next.
  char rest[8];
  CHECK(::recv(transport->fd(), rest, sizeof(rest), MSG_PEEK) == 4);
  CHECK(send_all(*transport, bytes_of("hello"), kPatienceMs) == 0);
  char heard[5];
  CHECK(::recv(backend.get(), heard, sizeof(heard), MSG_WAITALL) == 5);
  CHECK(std::memcmp(heard, "hello", 5) == 0);
}

struct Conversation {
  Listener listener;
  std::unique_ptr<FdTransport> transport;
  Fd backend;
};

Conversation begin_conversation() {
  Conversation conversation;
  conversation.listener = listen_tcp4();
  if (open_endpoint(conversation.listener.endpoint, &conversation.transport) != 0 ||
      connect_transport(*conversation.transport, conversation.listener.endpoint, kPatienceMs) != 0)
    std::abort();
  conversation.backend =
      Fd(::accept4(conversation.listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
  return conversation;
}

// Waits until thread_id sleeps in the kernel, so that a wake-up and not a check before the wait is
// what ends it.
void wait_until_asleep(pid_t thread_id) {
  const std::string path = "/proc/self/task/" + std::to_string(thread_id) + "/stat";
  for (int tries = 0; tries < 10'000; ++tries) {
    char text[256] = "";
    FILE* file = std::fopen(path.c_str(), "re");
    if (file == nullptr) return;
    const size_t length = std::fread(text, 1, sizeof(text) - 1, file);
    std::fclose(file);
    text[length] = '\0';
    const char* name_end = std::strrchr(text, ')');
    if (name_end != nullptr && name_end[2] == 'S') return;
    std::this_thread::yield();
  }
}

// Runs blocking in a second thread, shuts the transport down once it waits, and returns its result.
template <typename Blocking>
int cancelled_result(FdTransport& transport, Blocking blocking, uint64_t* took_ms) {
  std::atomic<pid_t> thread_id{0};
  int result = 0;
  std::thread thread([&] {
    thread_id.store(::gettid());
    result = blocking();
  });
  while (thread_id.load() == 0)
    std::this_thread::yield();
  wait_until_asleep(thread_id.load());
  const uint64_t begin_ms = unbd::monotonic_ms();
  transport.shutdown();
  thread.join();
  *took_ms = unbd::monotonic_ms() - begin_ms;
  return result;
}

}  // namespace

TEST("a conversation over TCP on IPv4") {
  expect_conversation(listen_tcp4());
}

TEST("a conversation over TCP on IPv6") {
  const Listener listener = listen_tcp6();
  if (!listener.socket.valid()) {
    std::printf("# skipped: this machine has no IPv6 loopback\n");
    return;
  }
  expect_conversation(listener);
}

TEST("a conversation over a unix socket") {
  const std::string path = "/tmp/unbd-transport-test-" + std::to_string(::getpid());
  expect_conversation(listen_unix(path));
  ::unlink(path.c_str());
}

TEST("a conversation over an abstract unix socket") {
  expect_conversation(listen_unix(abstract_name()));
}

TEST("a TCP socket has its options before it connects") {
  std::unique_ptr<FdTransport> transport;
  CHECK(open_endpoint({.address = "127.0.0.1", .port = 9}, &transport) == 0);
  const int fd = transport->fd();
  CHECK(option_of(fd, IPPROTO_TCP, TCP_NODELAY) == 1);
  CHECK(option_of(fd, SOL_SOCKET, SO_KEEPALIVE) == 1);
  CHECK(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE) == 10);
  CHECK(option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL) == 5);
  CHECK(option_of(fd, IPPROTO_TCP, TCP_KEEPCNT) == 3);
  CHECK(option_of(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) == 30'000);
  linger lingering{};
  socklen_t length = sizeof(lingering);
  CHECK(::getsockopt(fd, SOL_SOCKET, SO_LINGER, &lingering, &length) == 0);
  CHECK(lingering.l_onoff == 1 && lingering.l_linger == 0);
}

TEST("a malformed address is refused") {
  std::unique_ptr<Transport> transport;
  const auto result_of = [&](const Endpoint& endpoint) {
    return connect_endpoint(endpoint, kPatienceMs, &transport);
  };
  CHECK(result_of({.address = "localhost", .port = 10809}) == -EINVAL);
  CHECK(result_of({.address = "127.0.0.1", .port = 0}) == -EINVAL);
  CHECK(result_of({.address = "127.0.0.1", .port = 65536}) == -EINVAL);
  CHECK(result_of({.kind = Endpoint::Kind::kUnix, .path = ""}) == -EINVAL);
  CHECK(result_of({.kind = Endpoint::Kind::kUnix, .path = std::string("/a\0b", 4)}) == -EINVAL);
  CHECK(result_of({.kind = Endpoint::Kind::kUnix, .path = std::string(108, 'x')}) == -ENAMETOOLONG);
  CHECK(result_of({.kind = Endpoint::Kind::kUnix, .path = "/nonexistent/socket"}) == -ENOENT);
  CHECK(transport == nullptr);
}

TEST("a port where nobody listens refuses") {
  Listener listener = listen_tcp4();
  listener.socket.reset();
  std::unique_ptr<Transport> transport;
  CHECK(connect_endpoint(listener.endpoint, kPatienceMs, &transport) == -ECONNREFUSED);
}

TEST("a vsock that nobody serves is an error") {
  std::unique_ptr<Transport> transport;
  const Endpoint endpoint{.kind = Endpoint::Kind::kVsock, .cid = 1, .port = 4242};
  CHECK(connect_endpoint(endpoint, 2000, &transport) < 0);
}

TEST("a connection attempt ends at its deadline") {
  const Listener tcp = listen_tcp4(0);
  const Listener local = listen_unix(abstract_name(), 0);
  for (const Listener* listener : {&tcp, &local}) {
    // The backlog takes a few connections; then nobody answers.
    std::vector<std::unique_ptr<Transport>> waiting;
    int result = 0;
    for (int count = 0; count < 8 && result == 0; ++count) {
      waiting.emplace_back();
      result = connect_endpoint(listener->endpoint, 100, &waiting.back());
    }
    CHECK(result == -ETIMEDOUT);
  }
}

TEST("a connection attempt is ended by another thread") {
  const Listener tcp = listen_tcp4(0);
  const Listener local = listen_unix(abstract_name(), 0);
  for (const Listener* listener : {&tcp, &local}) {
    std::vector<std::unique_ptr<Transport>> waiting(8);
    for (auto& transport : waiting)
      if (connect_endpoint(listener->endpoint, 300, &transport) != 0) break;
    std::unique_ptr<FdTransport> transport;
    CHECK(open_endpoint(listener->endpoint, &transport) == 0);
    uint64_t took_ms = 0;
    const int result = cancelled_result(
        *transport, [&] { return connect_transport(*transport, listener->endpoint, kPatienceMs); },
        &took_ms);
    CHECK(result == -ECANCELED);
    CHECK(took_ms < kPatienceMs / 2);
  }
}

TEST("a receive ends at its deadline, at the end of the stream, and by another thread") {
  Conversation conversation = begin_conversation();
  std::vector<std::byte> bytes(16);
  CHECK(::send(conversation.backend.get(), "abc", 3, 0) == 3);
  CHECK(recv_exactly(*conversation.transport, bytes, 50) == -ETIMEDOUT);
  CHECK(recv_exactly(*conversation.transport, bytes, 0) == -ETIMEDOUT);

  uint64_t took_ms = 0;
  FdTransport& transport = *conversation.transport;
  const int result = cancelled_result(
      transport, [&] { return recv_exactly(transport, bytes, kPatienceMs); }, &took_ms);
  CHECK(result == -ECANCELED);
  CHECK(took_ms < kPatienceMs / 2);

  Conversation ending = begin_conversation();
  CHECK(::send(ending.backend.get(), "abc", 3, 0) == 3);
  ending.backend.reset();
  CHECK(recv_exactly(*ending.transport, bytes, kPatienceMs) == -ENODATA);
}

TEST("a send ends at its deadline and by another thread") {
  Conversation conversation = begin_conversation();
  FdTransport& transport = *conversation.transport;
  const std::vector<std::byte> much(64 << 20);
  CHECK(send_all(transport, much, 100) == -ETIMEDOUT);
  uint64_t took_ms = 0;
  const int result =
      cancelled_result(transport, [&] { return send_all(transport, much, kPatienceMs); }, &took_ms);
  CHECK(result == -ECANCELED);
  CHECK(took_ms < kPatienceMs / 2);
}

TEST("closing resets the connection, and after a goodbye it does not") {
  for (const bool gracefully : {false, true}) {
    Conversation conversation = begin_conversation();
    CHECK(send_all(*conversation.transport, bytes_of("bye"), kPatienceMs) == 0);
    if (gracefully) conversation.transport->close_gracefully_from_now_on();
    conversation.transport.reset();
    char heard[8];
    const ssize_t first = ::recv(conversation.backend.get(), heard, sizeof(heard), 0);
    if (gracefully) {
      CHECK(first == 3);
      CHECK(::recv(conversation.backend.get(), heard, sizeof(heard), 0) == 0);
    } else {
      CHECK(first < 0 || (::recv(conversation.backend.get(), heard, sizeof(heard), 0) < 0));
      CHECK(errno == ECONNRESET);
    }
  }
}

TEST_MAIN()
