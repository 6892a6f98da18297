// Owns: an NbdAdapter on a real ring and a socket pair, with the test as its queue and as its
// backend.
// Runs on the test's thread.
// Must not: wait longer than kPatienceMs for anything; a test that waits has failed.
#pragma once

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nbd/adapter.h"
#include "nbd/unflushed_log.h"
#include "ring/ring.h"
#include "ring/user_data.h"
#include "test/check.h"
#include "test/nbd_protocol.h"
#include "test/observed_transport.h"

// For what must hold before a test can go on; it ends the program, as a failed invariant does.
#define REQUIRE(condition)                                                            \
  do {                                                                                \
    if (!(condition)) {                                                               \
      std::fprintf(stderr, "# %s:%d: REQUIRE(%s)\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                   \
    }                                                                                 \
  } while (0)

namespace nbd_test {

using unbd::Op;
using unbd::Request;

constexpr int kPatienceMs = 60'000;
constexpr uint32_t kRequestBytesMax = 1 << 20;

class Fixture final : public unbd::CompletionSink, public unbd::EventSink {
 public:
  struct Options {
    bool structured = false;
    bool read_only = false;
    bool can_flush = true;
    bool can_fua = true;
    bool can_trim = true;
    bool can_write_zeroes = true;
    uint32_t maximum_block_bytes = 0xffffffff;
    uint32_t minimum_block_bytes = 1;
    unsigned depth = 64;
    int send_buffer_bytes = 0;  // 0: the system's default
    int socket = -1;            // connected to a backend elsewhere; -1: the test is the backend
    uint16_t epoch = 0x7e57;
    // Of the device; what follows is not for resume().
    uint32_t maximum_request_bytes = kRequestBytesMax;
    int64_t reconnect_delay_ms = 0;
    int64_t first_hold_ms = unbd::NbdDeviceConfig::kForever;
    uint32_t request_timeout_ms = 0;
    unbd::Unflushed unflushed = unbd::Unflushed::kTrust;
    bool durable_writes = false;
    bool resend_writes = true;
    bool in_doubt = false;
    bool starts_connected = true;
    std::shared_ptr<unbd::UnflushedLog> log;
    std::shared_ptr<unbd::NbdDevice> device;  // another fixture's: this is its second queue
  };
  struct Event {
    std::string kind;
    std::string text;
  };

  explicit Fixture(const Options& options);
  Fixture() : Fixture(Options{}) {}
  ~Fixture();

  // The queue's side.
  Request request(Op op, uint16_t tag, uint64_t offset, uint64_t length);
  void submit(const std::vector<Request>& batch);
  void submit(const Request& one) { submit(std::vector<Request>{one}); }
  // One turn of the queue's loop; waits for a CQE for at most timeout_ms.
  void turn(int timeout_ms);
  // Takes all CQEs that are there and come as a consequence; does not wait for more.
  void settle();
  template <typename Predicate>
  bool turn_until(Predicate predicate) {
    for (int turns = 0; turns < 100'000; ++turns) {
      if (predicate()) return true;
      turn(kPatienceMs);
      if (timed_out_) return false;
    }
    return false;
  }
  // Runs turns until tag was answered; its result.
  int32_t result_of(int tag);
  bool is_answered(int tag) const { return results_.contains(tag); }
  size_t answered() const { return results_.size(); }
  void forget_results() { results_.clear(); }
  // As long as tag's latest READ or WRITE, to the byte.
  std::byte* buffer(uint16_t tag) { return buffers_[tag].get(); }
  void fill_buffer(uint16_t tag, uint64_t offset, size_t length);
  // The index of the first byte in tag's buffer that is not the pattern at offset, or length.
  size_t first_wrong_byte(uint16_t tag, uint64_t offset, size_t length);
  unbd::NbdAdapter& adapter() { return *adapter_; }
  const std::shared_ptr<unbd::NbdDevice>& device() const { return device_; }
  // Cuts the connection from outside.
  void hold();
  // A new connection, and with it a new backend.
  void resume(const Options& agreed);
  std::vector<Event> events;
  bool is_lost() const {
    return std::any_of(events.begin(), events.end(),
                       [](const Event& event) { return event.kind != "warning"; });
  }
  size_t count_events(std::string_view kind) const {
    return static_cast<size_t>(std::count_if(
        events.begin(), events.end(), [&](const Event& event) { return event.kind == kind; }));
  }
  ObservedTransport::Log transport_log;

  // The backend's side. Requests are read while turns go on.
  Sent next_request();
  Bytes next_bytes(size_t length);
  bool backend_has_bytes() const;
  bool backend_sees_end();
  void reply(const Bytes& bytes) { reply(bytes.data(), bytes.size()); }
  void reply(const uint8_t* bytes, size_t length);
  void close_backend() { backend_.reset(); }
  void half_close_backend() { ::shutdown(backend_.get(), SHUT_WR); }

  void complete(uint16_t tag, uint16_t generation, int32_t result) override;
  void post(std::string_view kind, std::string_view text) override;

 private:
  std::unique_ptr<unbd::nbd::Connection> connect(const Options& options);

  unbd::Ring ring_;
  std::shared_ptr<unbd::NbdDevice> device_;
  unbd::Fd backend_;
  std::map<uint16_t, std::unique_ptr<std::byte[]>> buffers_;
  std::unique_ptr<unbd::NbdAdapter> adapter_;
  std::map<uint16_t, uint16_t> in_flight_;  // tag: generation
  std::map<int, int32_t> results_;
  uint16_t next_generation_ = 1;
  bool timed_out_ = false;
};

inline Fixture::Fixture(const Options& options) : device_(options.device) {
  unbd::NbdDeviceConfig config;
  config.depth = options.depth;
  config.maximum_request_bytes = options.maximum_request_bytes;
  config.read_only = options.read_only;
  config.reconnect_delay_ms = options.reconnect_delay_ms;
  config.first_hold_ms = options.first_hold_ms;
  config.request_timeout_ms = options.request_timeout_ms;
  config.unflushed = options.unflushed;
  config.durable_writes = options.durable_writes;
  config.resend_writes = options.resend_writes;
  config.in_doubt = options.in_doubt;
  config.log = options.log;
  const unsigned queue = device_ == nullptr ? 0 : 1;
  if (device_ == nullptr) device_ = std::make_shared<unbd::NbdDevice>(std::move(config));
  REQUIRE(ring_.init({}) == 0);
  adapter_ = std::make_unique<unbd::NbdAdapter>(
      device_, queue, options.starts_connected ? connect(options) : nullptr);
  REQUIRE(adapter_->start(ring_, *this, *this) == 0);
  REQUIRE(ring_.submit() == 0);
}

inline std::unique_ptr<unbd::nbd::Connection> Fixture::connect(const Options& options) {
  int pair[2] = {options.socket, -1};
  if (options.socket < 0)
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
  backend_ = unbd::Fd(pair[1]);
  if (options.send_buffer_bytes > 0)
    ::setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &options.send_buffer_bytes, sizeof(int));
  const unbd::NbdAgreement agreement{.structured_replies = options.structured,
                                     .can_flush = options.can_flush,
                                     .can_fua = options.can_fua,
                                     .can_trim = options.can_trim,
                                     .can_write_zeroes = options.can_write_zeroes,
                                     .maximum_block_bytes = options.maximum_block_bytes,
                                     .minimum_block_bytes = options.minimum_block_bytes,
                                     .epoch = options.epoch};
  return std::make_unique<unbd::nbd::Connection>(
      device_->config(), agreement,
      std::make_unique<ObservedTransport>(unbd::Fd(pair[0]), &transport_log));
}

inline void Fixture::hold() {
  adapter_->hold();
  adapter_->end_turn();
}

inline void Fixture::resume(const Options& agreed) {
  adapter_->resume(connect(agreed));
  adapter_->end_turn();
  REQUIRE(ring_.submit() == 0);
}

// Every test ends as a queue does: nothing of the adapter's is left on the ring.
inline Fixture::~Fixture() {
  adapter_->fail_all(EIO);
  REQUIRE(turn_until([&] { return adapter_->stopped(); }));
  REQUIRE(in_flight_.empty());
}

inline Request Fixture::request(Op op, uint16_t tag, uint64_t offset, uint64_t length) {
  Request request{};
  request.op = op;
  request.tag = tag;
  request.generation = next_generation_++;
  request.offset_bytes = offset;
  request.length_bytes = length;
  if (op == Op::kRead || op == Op::kWrite) {
    buffers_[tag] = std::make_unique_for_overwrite<std::byte[]>(length);
    request.buffer = buffer(tag);
  }
  return request;
}

inline void Fixture::submit(const std::vector<Request>& batch) {
  for (const Request& request : batch) {
    REQUIRE(!in_flight_.contains(request.tag));
    in_flight_[request.tag] = request.generation;
    results_.erase(request.tag);
  }
  adapter_->submit(batch);
  adapter_->end_turn();
  REQUIRE(ring_.submit() == 0);
}

inline void Fixture::turn(int timeout_ms) {
  REQUIRE(ring_.submit_and_wait(timeout_ms) == 0);
  const unsigned reaped = ring_.reap([&](uint64_t user_data, int32_t result, uint32_t flags) {
    // A wait with a timeout leaves a CQE of its own on old kernels.
    if (unbd::kind_of(user_data) == unbd::UserDataKind::kAdapter)
      adapter_->on_cqe(unbd::payload_of(user_data), result, flags);
  });
  timed_out_ = reaped == 0;
  adapter_->end_turn();
}

inline void Fixture::settle() {
  do {
    turn(0);
  } while (!timed_out_);
}

inline int32_t Fixture::result_of(int tag) {
  REQUIRE(turn_until([&] { return is_answered(tag); }));
  return results_[tag];
}

inline void Fixture::fill_buffer(uint16_t tag, uint64_t offset, size_t length) {
  const Bytes bytes = pattern(offset, length);
  std::memcpy(buffer(tag), bytes.data(), length);
}

inline size_t Fixture::first_wrong_byte(uint16_t tag, uint64_t offset, size_t length) {
  for (size_t index = 0; index < length; ++index)
    if (static_cast<uint8_t>(buffer(tag)[index]) != pattern_at(offset + index)) return index;
  return length;
}

inline Sent Fixture::next_request() {
  const Sent sent = parse_request(next_bytes(kRequestBytes).data());
  REQUIRE(sent.magic == kRequestMagic);
  return sent;
}

inline Bytes Fixture::next_bytes(size_t length) {
  Bytes bytes;
  bytes.resize(length);
  size_t done = 0;
  while (done < length) {
    const ssize_t got = ::recv(backend_.get(), bytes.data() + done, length - done, 0);
    if (got > 0) {
      done += static_cast<size_t>(got);
      continue;
    }
    REQUIRE(got < 0 && errno == EAGAIN);
    // The rest waits for room, and leaves in a later turn.
    turn(kPatienceMs);
    REQUIRE(!timed_out_);
  }
  return bytes;
}

inline bool Fixture::backend_has_bytes() const {
  uint8_t byte = 0;
  return ::recv(backend_.get(), &byte, 1, MSG_PEEK) == 1;
}

inline bool Fixture::backend_sees_end() {
  uint8_t byte = 0;
  return ::recv(backend_.get(), &byte, 1, MSG_PEEK) == 0;
}

inline void Fixture::reply(const uint8_t* bytes, size_t length) {
  while (length > 0) {
    const ssize_t sent = ::send(backend_.get(), bytes, length, MSG_NOSIGNAL);
    if (sent > 0) {
      bytes += sent;
      length -= static_cast<size_t>(sent);
    } else if (errno == EPIPE || errno == ECONNRESET) {
      return;  // cut off by the adapter
    } else {
      turn(kPatienceMs);
    }
  }
}

inline void Fixture::complete(uint16_t tag, uint16_t generation, int32_t result) {
  // Exactly once for each request, and with its generation.
  REQUIRE(in_flight_.contains(tag));
  REQUIRE(in_flight_[tag] == generation);
  in_flight_.erase(tag);
  results_[tag] = result;
}

inline void Fixture::post(std::string_view kind, std::string_view text) {
  events.push_back({std::string(kind), std::string(text)});
}

}  // namespace nbd_test
