// Owns: how a connected transport comes to be, and its I/O with a deadline during the handshake.
// Runs on: a worker thread of the control plane; the functions block in poll(2) up to their
// timeout.
// Must not: resolve names, retry, read ahead, or run on a queue's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "transport/fd_transport.h"
#include "transport/transport.h"

namespace unbd {

// One address to connect to. Names are resolved by the caller.
struct Endpoint {
  enum class Kind { kTcp, kUnix, kVsock };
  Kind kind = Kind::kTcp;
  std::string address;  // kTcp: numeric IPv4 or IPv6, with an optional %scope
  std::string path;     // kUnix: a path; a leading NUL byte makes it abstract
  uint32_t cid = 0;     // kVsock
  uint32_t port = 0;    // kTcp (1 to 65535), kVsock
};

// Makes the socket of endpoint with all its options, not yet connected: the caller can give it to
// another thread which may call shutdown() to end connect_transport(), send_all() and
// recv_exactly() at once with -ECANCELED. Returns 0 or -errno (-EINVAL: the address is not numeric;
// -ENAMETOOLONG: the path does not fit).
int open_endpoint(const Endpoint& endpoint, std::unique_ptr<FdTransport>* out);

// Connects what open_endpoint() made. Returns 0, -ETIMEDOUT, -ECANCELED or another -errno.
int connect_transport(FdTransport& transport, const Endpoint& endpoint, int timeout_ms);

// open_endpoint() and connect_transport() in one, for callers that need no cancellation.
int connect_endpoint(const Endpoint& endpoint, int timeout_ms, std::unique_ptr<Transport>* out);

// Sends all of bytes. Returns 0, -ETIMEDOUT, -ECANCELED or another -errno.
int send_all(Transport& transport, std::span<const std::byte> bytes, int timeout_ms);

// Receives exactly bytes.size() bytes and none more. Returns 0, -ETIMEDOUT, -ECANCELED, -ENODATA
// when the backend closed the connection before the last of them, or another -errno.
int recv_exactly(Transport& transport, std::span<std::byte> bytes, int timeout_ms);

}  // namespace unbd
