// Owns: NbdAdapter, the wire adapter: it turns a queue's requests into NBD requests on one
// connection that is past its handshake, and their replies into completions.
// Runs on: the queue's thread.
// Must not: negotiate, reconnect, block, allocate after start(), or trust a byte that the backend
// sent.
#pragma once

#include <cstdint>
#include <memory>

#include "adapter/adapter.h"
#include "nbd/receiver.h"
#include "nbd/request_table.h"
#include "nbd/sender.h"
#include "transport/transport.h"

namespace unbd {

// What the handshake agreed on.
struct NbdConfig {
  static constexpr uint32_t kNoMaximum = 0xffffffff;

  std::unique_ptr<Transport> transport;  // connected; not a byte past the handshake was read
  bool structured_replies = false;
  bool read_only = false;
  bool can_flush = false;
  bool can_fua = false;
  bool can_trim = false;
  bool can_write_zeroes = false;
  uint32_t maximum_block_bytes = kNoMaximum;     // of a READ's or WRITE's payload
  uint32_t minimum_block_bytes = 1;              // a power of two
  uint32_t maximum_request_bytes = 1024 * 1024;  // the longest kRead or kWrite of the queue
  unsigned depth = 0;                            // tags are below it
  uint16_t epoch = 0;                            // of the connection; part of every cookie
};

class NbdAdapter final : public Adapter, private nbd::ReplySink {
 public:
  explicit NbdAdapter(NbdConfig config);

  int start(Ring& ring, CompletionSink& sink, EventSink& events) override;
  void submit(std::span<const Request> batch) override;
  void on_cqe(uint64_t payload, int32_t result, uint32_t flags) override;
  void end_turn() override;
  void fail_all(int error) override;
  void stop() override;
  bool stopped() const override;

 private:
  // kServing until stop(); then one FLUSH where writes need it, then DISC and the backend's end of
  // stream.
  enum class Phase : uint8_t { kServing, kLastFlush, kGoodbye };

  void part_done(nbd::Part& part, int error) override;
  void warn(std::string_view text) override;

  int refusal(const Request& request) const;
  void stage_request(nbd::RequestState& state);
  void stage_part(nbd::Part& part, uint16_t flags);
  void stage_flush(nbd::RequestState& state);
  void request_done(nbd::RequestState& state);
  void account(const nbd::RequestState& state);

  void send();
  void arm_receive();
  void received(int32_t result);
  void say_goodbye();

  void lose(std::string_view kind, std::string_view reason);
  void lose_by_errno(int error);
  void end_connection(int error);
  void fail_in_flight();

  NbdConfig config_;
  nbd::RequestTable table_;
  nbd::Sender sender_;
  nbd::Receiver receiver_;
  Ring* ring_ = nullptr;
  CompletionSink* sink_ = nullptr;
  EventSink* events_ = nullptr;

  Phase phase_ = Phase::kServing;
  int error_ = 0;  // positive: the connection is over, and what every request ends with
  bool receive_in_flight_ = false;
  bool send_ready_in_flight_ = false;
  unsigned warnings_ = 0;
  // Writes whose durability a FLUSH must bring: how many were answered, and how many of these a
  // FLUSH covers.
  uint64_t volatile_writes_ = 0;
  uint64_t flushed_writes_ = 0;
};

}  // namespace unbd
