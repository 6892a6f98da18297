// Owns: the implementation of connect.h.
// Runs on a worker thread of the control plane.
// Must not: leave a socket without its options for even one connection attempt.
#include "transport/connect.h"

#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/clock.h"

namespace unbd {

namespace {

constexpr int kKeepaliveIdleS = 10;
constexpr int kKeepaliveIntervalS = 5;
constexpr int kKeepaliveProbes = 3;
constexpr int kUserTimeoutMs = 30'000;
// A unix socket whose backlog is full gives no event to wait for.
constexpr int kBacklogRetryMs = 5;

class Deadline {
 public:
  explicit Deadline(int timeout_ms) : end_ms_(monotonic_ms() + static_cast<uint64_t>(timeout_ms)) {}
  int left_ms() const {
    const uint64_t now = monotonic_ms();
    return now >= end_ms_ ? 0 : static_cast<int>(end_ms_ - now);
  }

 private:
  uint64_t end_ms_;
};

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

int tcp_address(const Endpoint& endpoint, Address* out) {
  if (endpoint.port == 0 || endpoint.port > UINT16_MAX) return -EINVAL;
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(endpoint.port);
  if (::getaddrinfo(endpoint.address.c_str(), port.c_str(), &hints, &found) != 0) return -EINVAL;
  std::memcpy(&out->storage, found->ai_addr, found->ai_addrlen);
  out->length = found->ai_addrlen;
  ::freeaddrinfo(found);
  return 0;
}

int unix_address(const Endpoint& endpoint, Address* out) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string& path = endpoint.path;
  if (path.empty()) return -EINVAL;
  const bool is_abstract = path[0] == '\0';
  if (!is_abstract && path.find('\0') != std::string::npos) return -EINVAL;
  // A path ends with a NUL byte; an abstract name is as long as it is said to be.
  const size_t length = path.size() + (is_abstract ? 0 : 1);
  if (length > sizeof(address.sun_path)) return -ENAMETOOLONG;
  std::memcpy(address.sun_path, path.data(), path.size());
  std::memcpy(&out->storage, &address, sizeof(address));
  out->length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  return 0;
}

int vsock_address(const Endpoint& endpoint, Address* out) {
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = endpoint.cid;
  address.svm_port = endpoint.port;
  std::memcpy(&out->storage, &address, sizeof(address));
  out->length = sizeof(address);
  return 0;
}

int address_of(const Endpoint& endpoint, Address* out) {
  switch (endpoint.kind) {
    case Endpoint::Kind::kTcp:
      return tcp_address(endpoint, out);
    case Endpoint::Kind::kUnix:
      return unix_address(endpoint, out);
    case Endpoint::Kind::kVsock:
      return vsock_address(endpoint, out);
  }
  __builtin_unreachable();
}

template <typename T>
int set_option(int fd, int level, int name, const T& value) {
  return ::setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : -errno;
}

int set_options(int fd, Endpoint::Kind kind) {
  // When the process dies, what is still queued must not reach the backend after a successor has
  // begun.
  const linger reset_on_close{.l_onoff = 1, .l_linger = 0};
  int result = set_option(fd, SOL_SOCKET, SO_LINGER, reset_on_close);
  if (kind != Endpoint::Kind::kTcp) return result;
  if (result == 0) result = set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  if (result == 0) result = set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  if (result == 0) result = set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleS);
  if (result == 0) result = set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalS);
  if (result == 0) result = set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
  if (result == 0) result = set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs);
  return result;
}

// Waits for events on fd. Returns 0 or -ETIMEDOUT; errors of the socket show in the call that
// follows.
int wait_for(int fd, short events, const Deadline& deadline) {
  for (;;) {
    pollfd entry{.fd = fd, .events = events, .revents = 0};
    const int left_ms = deadline.left_ms();
    const int result = ::poll(&entry, 1, left_ms);
    if (result > 0) return 0;
    if (result == 0) return -ETIMEDOUT;
    if (errno != EINTR) return -errno;
  }
}

// A port in the ephemeral range where nobody listens can be connected to itself.
bool is_connected_to_itself(int fd) {
  Address local;
  Address remote;
  local.length = sizeof(local.storage);
  remote.length = sizeof(remote.storage);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&local.storage), &local.length) != 0 ||
      ::getpeername(fd, reinterpret_cast<sockaddr*>(&remote.storage), &remote.length) != 0)
    return false;
  return local.length == remote.length &&
         std::memcmp(&local.storage, &remote.storage, local.length) == 0;
}

int finish_connect(FdTransport& transport, const Deadline& deadline) {
  if (const int result = wait_for(transport.fd(), POLLOUT, deadline); result < 0) return result;
  if (transport.is_shut_down()) return -ECANCELED;
  int error = 0;
  socklen_t length = sizeof(error);
  if (::getsockopt(transport.fd(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) return -errno;
  return -error;
}

}  // namespace

int open_endpoint(const Endpoint& endpoint, std::unique_ptr<FdTransport>* out) {
  Address address;
  if (const int result = address_of(endpoint, &address); result < 0) return result;
  Fd socket(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return -errno;
  if (const int result = set_options(socket.get(), endpoint.kind); result < 0) return result;
  *out = std::make_unique<FdTransport>(std::move(socket));
  return 0;
}

int connect_transport(FdTransport& transport, const Endpoint& endpoint, int timeout_ms) {
  const Deadline deadline(timeout_ms);
  Address address;
  if (const int result = address_of(endpoint, &address); result < 0) return result;
  for (;;) {
    if (transport.is_shut_down()) return -ECANCELED;
    int result = ::connect(transport.fd(), address.get(), address.length) == 0 ? 0 : -errno;
    if (result == -EAGAIN && endpoint.kind == Endpoint::Kind::kUnix) {
      if (deadline.left_ms() == 0) return -ETIMEDOUT;
      ::poll(nullptr, 0, kBacklogRetryMs);
      continue;
    }
    // After an interruption the attempt goes on by itself.
    if (result == -EINPROGRESS || result == -EINTR) result = finish_connect(transport, deadline);
    if (transport.is_shut_down()) return -ECANCELED;
    if (result == 0 && endpoint.kind == Endpoint::Kind::kTcp &&
        is_connected_to_itself(transport.fd()))
      return -ECONNREFUSED;
    return result;
  }
}

int connect_endpoint(const Endpoint& endpoint, int timeout_ms, std::unique_ptr<Transport>* out) {
  std::unique_ptr<FdTransport> transport;
  int result = open_endpoint(endpoint, &transport);
  if (result == 0) result = connect_transport(*transport, endpoint, timeout_ms);
  if (result == 0) *out = std::move(transport);
  return result;
}

int send_all(Transport& transport, std::span<const std::byte> bytes, int timeout_ms) {
  const Deadline deadline(timeout_ms);
  while (!bytes.empty()) {
    const iovec rest{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
    const ssize_t sent = transport.try_send(&rest, 1);
    if (sent > 0) {
      bytes = bytes.subspan(static_cast<size_t>(sent));
      continue;
    }
    if (sent != -EAGAIN) return static_cast<int>(sent);
    if (const int result = wait_for(transport.fd(), POLLOUT, deadline); result < 0) return result;
  }
  return 0;
}

int recv_exactly(Transport& transport, std::span<std::byte> bytes, int timeout_ms) {
  const Deadline deadline(timeout_ms);
  while (!bytes.empty()) {
    const iovec rest{.iov_base = bytes.data(), .iov_len = bytes.size()};
    const ssize_t received = transport.try_recv(&rest, 1);
    if (received > 0) {
      bytes = bytes.subspan(static_cast<size_t>(received));
      continue;
    }
    if (received == 0) return -ENODATA;
    if (received != -EAGAIN) return static_cast<int>(received);
    if (const int result = wait_for(transport.fd(), POLLIN, deadline); result < 0) return result;
  }
  return 0;
}

}  // namespace unbd
