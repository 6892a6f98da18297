// Owns: NbdAdapter, the wire adapter: one queue's life across the connections to its backend. It
// gives the queue's requests to the connection of the moment, keeps those that have to wait, and
// completes each of them once.
// Runs on: the queue's thread, all but the constructor.
// Must not: negotiate, make connections, block, allocate after start(), or trust a byte that the
// backend sent.
#pragma once

#include <cstdint>
#include <memory>

#include "adapter/adapter.h"
#include "nbd/connection.h"
#include "nbd/device.h"
#include "nbd/request_table.h"
#include "nbd/ring_timer.h"
#include "nbd/waiting_list.h"

namespace unbd {

class UnflushedLog;

class NbdAdapter final : public Adapter, private nbd::ConnectionOwner {
 public:
  // queue: its number in the device. Without a connection (null) the adapter begins with a hold.
  NbdAdapter(std::shared_ptr<NbdDevice> device, unsigned queue,
             std::unique_ptr<nbd::Connection> connection);

  int start(Ring& ring, CompletionSink& sink, EventSink& events) override;
  void submit(std::span<const Request> batch) override;
  void on_cqe(uint64_t payload, int32_t result, uint32_t flags) override;
  void end_turn() override;
  void fail_all(int error) override;
  // connection is an nbd::Connection for the same device.
  void hold() override;
  void resume(std::unique_ptr<BackendConnection> connection) override;
  void stop() override;
  bool stopped() const override;

 private:
  using State = NbdDevice::State;
  // kNo until stop(); then one FLUSH where writes need it, then DISC and the backend's end of
  // stream.
  enum class Ending : uint8_t { kNo, kLastFlush, kGoodbye };

  // ---- Requests and replies (adapter.cc).
  void dispatch(nbd::Pending& pending);
  bool admit(nbd::Pending& pending);
  void dispatch_waiting();
  void finish_unsent(const nbd::Pending& pending, int error);
  void part_done(nbd::Part& part, int error) override;
  bool change_done(nbd::RequestState& state);
  void settle_reservation(const nbd::RequestState& state);
  void stage_flush(nbd::RequestState& state);
  void stage_own_flush();
  void own_flush_done(int error);
  void warn(std::string_view text) override;

  // ---- States (adapter_life.cc).
  void enter(State next);
  void lost(std::string_view kind, std::string_view reason) override;
  void cut();
  void take_back_requests();
  void begin_hold(int64_t delay_ms);
  void hold_expired();
  void begin_failing(State state, int error);
  void fail_waiting(int error);
  void advance();
  uint64_t resend();
  void watch_ages();
  void check_ages();
  bool needs_last_flush() const;
  void advance_end();

  const std::shared_ptr<NbdDevice> device_;
  UnflushedLog* const log_;  // the device's, or null
  const unsigned queue_;
  const unsigned depth_;
  const bool durable_writes_;
  const uint32_t tick_ms_;  // of the clock by which requests age; 0: they may wait for ever

  std::unique_ptr<nbd::Connection> connection_;  // also one that is over, until it is idle
  std::unique_ptr<nbd::Connection> next_;        // its successor, until then
  nbd::WaitingList waiting_;  // for a connection or, while there is one, for room in the log
  Ring* ring_ = nullptr;
  CompletionSink* sink_ = nullptr;
  EventSink* events_ = nullptr;
  nbd::RingTimer hold_timer_;
  nbd::RingTimer age_timer_;

  State state_ = State::kHolding;
  Ending ending_ = Ending::kNo;
  int error_ = 0;  // positive: what every request ends with in kFailing and kFatal
  uint64_t next_order_ = 0;
  uint32_t tick_ = 0;
  bool own_flush_in_flight_ = false;
  bool log_is_full_ = false;
  unsigned warnings_ = 0;
  uint16_t own_generation_ = 0;
  uint64_t seen_doubts_ = 0;
  // Changes whose durability a FLUSH must bring: how many were answered, and how many of these a
  // FLUSH covers.
  uint64_t volatile_writes_ = 0;
  uint64_t flushed_writes_ = 0;
};

}  // namespace unbd
