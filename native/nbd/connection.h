// Owns: nbd::Connection, one connection that is past its handshake, from its first request to its
// end: it splits requests at the backend's maximum, sends them, and receives the replies.
// Runs on: the queue's thread from start() on; made, and destroyed unused, on any.
// Must not: negotiate, reconnect, outlive its loss with anything but its SQEs in flight, block,
// allocate after construction, or trust a byte that the backend sent.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "adapter/adapter.h"
#include "nbd/device.h"
#include "nbd/receiver.h"
#include "nbd/request_table.h"
#include "nbd/sender.h"
#include "transport/transport.h"

namespace unbd {

class Ring;

// What the handshake agreed on.
struct NbdAgreement {
  static constexpr uint32_t kNoMaximum = 0xffffffff;

  bool structured_replies = false;
  bool can_flush = false;
  bool can_fua = false;
  bool can_trim = false;
  bool can_write_zeroes = false;
  uint32_t maximum_block_bytes = kNoMaximum;  // of a READ's or WRITE's payload
  uint32_t minimum_block_bytes = 1;           // a power of two
  uint16_t epoch = 0;                         // of the connection; part of every cookie
};

namespace nbd {

// Payloads of user_data of which the rest of the adapter keeps clear.
constexpr uint64_t kReceivePayload = 1;
constexpr uint64_t kReceiveMorePayload = 2;
constexpr uint64_t kSendReadyPayload = 3;

class ConnectionOwner : public ReplySink {
 public:
  // The connection is of no more use; the owner calls reset().
  virtual void lost(std::string_view kind, std::string_view reason) = 0;

 protected:
  ~ConnectionOwner() = default;
};

class Connection final : public BackendConnection {
 public:
  // transport is connected, and not a byte past the handshake was read.
  Connection(const NbdDeviceConfig& device, const NbdAgreement& agreement,
             std::unique_ptr<Transport> transport);

  // The stream is watched from now on, also while nothing is in flight: it is how the end of the
  // connection shows.
  void start(Ring& ring, ConnectionOwner& owner);
  // A CQE with one of the payloads above.
  void on_cqe(uint64_t payload, int32_t result, uint32_t flags);
  // Sends what is staged, all in one call. What does not fit waits for room, and all later requests
  // behind it.
  void end_turn();

  const NbdAgreement& agreement() const { return agreement_; }
  RequestTable& table() { return table_; }

  // The negative errno of a request that is not for this backend, or 0.
  int refusal(const Request& request) const;
  // Stages a request that is not refused, as one part or several. A change that is_durable has the
  // flag FUA where the backend knows it.
  RequestState& stage(const Pending& pending, bool is_durable);
  // Stages a FLUSH: all of a request, or what follows the writes of an emulated FUA.
  void stage_flush(RequestState& state);

  // No request is in flight: sends DISC, and after it the end of the stream. What the backend still
  // says is ignored; its end of the stream is then told as a loss.
  void say_goodbye();

  // Ends the connection without a word. SQEs in flight come to their end, and then is_idle().
  void reset();
  bool is_idle() const {
    return !watch_in_flight_ && !receive_more_in_flight_ && !send_ready_in_flight_;
  }

 private:
  void stage_part(Part& part, uint16_t flags);
  void send();
  void watch();
  void receive();
  void receive_more();
  void received(ssize_t bytes);
  void lose_by_errno(int error);

  const NbdAgreement agreement_;
  const uint32_t maximum_request_bytes_;
  const bool read_only_;
  std::unique_ptr<Transport> transport_;
  RequestTable table_;
  Sender sender_;
  Receiver receiver_;
  Ring* ring_ = nullptr;
  ConnectionOwner* owner_ = nullptr;
  bool is_over_ = false;
  bool says_goodbye_ = false;
  bool watch_in_flight_ = false;
  bool stream_ends_ = false;  // or has failed; bytes may still come before that
  bool receive_more_in_flight_ = false;
  bool send_ready_in_flight_ = false;
};

}  // namespace nbd
}  // namespace unbd
