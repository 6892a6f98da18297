// Owns: Queue, one hardware queue of a device: its ring, its tags and their buffers, and the loop
// that carries requests from the driver to the adapter and results back.
// Runs on: its own thread, all but mailbox_error(), add_stats_to() and what posts a command.
// Must not: name a protocol, allocate or lock once it serves, or end alone while the process lives
// on: what cannot be served aborts the process, and the driver gives the requests to its successor.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "adapter/adapter.h"
#include "queue/counters.h"
#include "queue/mailbox.h"
#include "queue/queue_types.h"
#include "queue/tag_buffers.h"
#include "queue/tag_table.h"
#include "ring/ring.h"
#include "ublk/char_device.h"
#include "ublk/io_command.h"

namespace unbd {

class Queue final : public CompletionSink, public EventSink {
 public:
  Queue(const QueuesConfig& config, unsigned index, QueuesListener& listener);
  ~Queue() = default;

  int mailbox_error() const { return mailbox_.error(); }

  // Makes ring, maps and buffers, starts the adapter and gives every tag to FETCH. Returns 0, or
  // -errno with *error_text set. Then either serve() or, where this or another queue's set_up
  // failed, abandon(); and last tear_down().
  int set_up(const CharDevice& device, std::unique_ptr<Adapter> adapter, std::string* error_text);

  // Returns when the device is stopped, every request is answered and the adapter has said goodbye.
  void serve();

  // Lets the adapter say goodbye, within a deadline.
  void abandon();

  void tear_down();

  void post_fail_all() { mailbox_.post(Mailbox::kFailAll); }
  // See Adapter; a hold is answered by the event "held".
  void post_hold() { mailbox_.post_hold(); }
  void post_resume(std::unique_ptr<BackendConnection> connection) {
    mailbox_.post_resume(std::move(connection));
  }
  // See DeviceQueues::quiesce(); answered by the event "quiesced".
  void post_quiesce(uint32_t round) { mailbox_.post_quiesce(round); }
  void add_stats_to(QueuesStats* stats) const { counters_.add_to(stats); }

  void complete(uint16_t tag, uint16_t generation, int32_t result) override;
  void post(std::string_view kind, std::string_view text) override;

 private:
  enum class Phase : uint8_t {
    kServing,   // requests come and go
    kDraining,  // the driver has aborted a FETCH: no new requests, those with us are finished
    kStopping,  // the adapter says goodbye, with a deadline
    kFailing,   // it did not; everything it has is being failed, with a deadline
    kEnded,
  };

  int open_ring(const CharDevice& device, const Adapter& adapter);
  void fetch_all();
  void turn();
  void on_cqe(uint64_t user_data, int32_t result, uint32_t flags);
  void on_ublk_cqe(uint16_t tag, int32_t result);
  void on_request(uint16_t tag);
  void park(uint16_t tag);
  void unpark();
  void obey_quiesce();
  void tell_when_quiet();
  bool describe(uint16_t tag, Request* request);
  void refuse(uint16_t tag, int error);
  void commit(uint16_t tag, int32_t result);
  void on_mailbox();
  void stage_mailbox_wait();
  void stage_deadline();
  void on_deadline();
  void advance_end();
  void stop_adapter();

  const unsigned index_;
  const unsigned depth_;
  const unsigned max_io_bytes_;
  const uint64_t size_bytes_;
  const bool read_only_;
  const bool user_copy_;
  const bool suppress_partition_scan_;

  Ring ring_;
  IoCommandTarget target_;
  IoDescMap descriptors_;
  TagTable tags_;
  TagBuffers buffers_;
  std::unique_ptr<Adapter> adapter_;
  std::vector<Request> batch_;  // room for depth_; the turn's requests are the first batch_length_
  unsigned batch_length_ = 0;
  std::vector<uint16_t> parked_;  // tags whose requests came while quiesced; room for depth_
  unsigned parked_count_ = 0;
  bool quiesced_ = false;
  uint32_t untold_round_ = 0;  // of a quiesce that is not over yet; 0: none
  unsigned commands_with_driver_ = 0;
  int char_device_fd_ = -1;
  int fetch_error_ = 0;
  Phase phase_ = Phase::kServing;

  Mailbox mailbox_;
  QueuesListener& listener_;
  QueueCounters counters_;
};

}  // namespace unbd
