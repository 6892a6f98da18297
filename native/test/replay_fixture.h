// Owns: a replay over a socket pair, with the test as the backend.
// Runs on the test's thread; the replay on one of its own.
// Must not: wait longer than kPatienceMs for anything; a test that waits has failed.
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "nbd/log_replay.h"
#include "test/log_fixture.h"
#include "test/nbd_protocol.h"
#include "transport/fd_transport.h"

namespace replay_test {

using log_test::require;
using nbd_test::Bytes;
using nbd_test::Sent;
using unbd::ReplayConfig;
using unbd::ReplayResult;
using Outcome = unbd::ReplayResult::Outcome;

constexpr int kPatienceMs = 60'000;
constexpr uint64_t kRingBytes = 4 * 1024 * 1024;

class Replay {
 public:
  // Makes a log and a connection; fill the log, then start().
  explicit Replay(unsigned queues = 2, uint64_t ring_bytes = kRingBytes)
      : log_(log_test::create(folder_.file(), queues, ring_bytes)) {
    int pair[2];
    require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0,
            "a socket pair");
    transport_ = std::make_unique<unbd::FdTransport>(unbd::Fd(pair[0]));
    backend_ = unbd::Fd(pair[1]);
    config.size_bytes = uint64_t{1} << 40;
    config.can_trim = true;
    config.can_write_zeroes = true;
  }
  ~Replay() {
    backend_.reset();
    if (thread_.joinable()) thread_.join();
  }

  ReplayConfig config;
  unbd::UnflushedLog& log() { return *log_; }
  unbd::Transport& transport() { return *transport_; }

  void write(unsigned queue, uint64_t offset, const std::string& payload) {
    require(log_test::write(*log_, queue, offset, payload), "room in the log");
  }
  void note(unsigned queue, unbd::LogKind kind, uint64_t offset, uint64_t length) {
    require(log_test::note(*log_, queue, kind, offset, length), "room in the log");
  }

  void start(int patience_ms = kPatienceMs) {
    thread_ = std::thread([this, patience_ms] {
      result_ = replay_log(*transport_, config, *log_, patience_ms);
      ended_.store(true);
    });
  }
  bool has_ended() const { return ended_.load(); }
  const ReplayResult& finish() {
    thread_.join();
    return result_;
  }

  // The backend's side.
  bool has_bytes(int timeout_ms) const {
    pollfd entry{.fd = backend_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&entry, 1, timeout_ms) == 1;
  }
  std::string take(size_t length) {
    std::string bytes(length, '\0');
    for (size_t done = 0; done < length;) {
      require(has_bytes(kPatienceMs), "bytes of a replay in time");
      const ssize_t got = ::recv(backend_.get(), bytes.data() + done, length - done, 0);
      require(got > 0, "bytes of a replay");
      done += static_cast<size_t>(got);
    }
    return bytes;
  }
  struct Request : Sent {
    std::string payload;
  };
  Request next() {
    const std::string head = take(nbd_test::kRequestBytes);
    Request request;
    static_cast<Sent&>(request) =
        nbd_test::parse_request(reinterpret_cast<const uint8_t*>(head.data()));
    require(request.magic == nbd_test::kRequestMagic, "a request's magic");
    if (request.type == nbd_test::kCmdWrite) request.payload = take(request.length);
    return request;
  }
  void reply(const Bytes& bytes) { send(bytes.data(), bytes.size()); }
  // What goes on being sent when the replay has ended meanwhile is nobody's.
  void send(const void* bytes, size_t length) {
    (void)!::send(backend_.get(), bytes, length, MSG_NOSIGNAL);
  }
  void close_backend() { backend_.reset(); }
  int backend() const { return backend_.get(); }

  // What the replay has left unread of what the backend sent.
  std::string left_unread() {
    std::string bytes(1 << 16, '\0');
    const ssize_t got = ::recv(transport_->fd(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return bytes;
  }

 private:
  log_test::Folder folder_;
  log_test::Log log_;
  std::unique_ptr<unbd::FdTransport> transport_;
  unbd::Fd backend_;
  ReplayResult result_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

}  // namespace replay_test
