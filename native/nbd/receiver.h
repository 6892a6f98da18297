// Owns: Receiver, the reply stream of one connection: where the next bytes go, what they mean, and
// whether the backend may send them.
// Runs on: the queue's thread.
// Must not: trust a byte (each is bounded and checked before it is used), write outside the buffer
// of the request that a reply belongs to, allocate after construction, or do I/O.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "nbd/request_table.h"
#include "nbd/sender.h"
#include "nbd/wire.h"

namespace unbd::nbd {

class ReplySink {
 public:
  // The reply to part is complete; error is 0 or a negative errno. part still waits for its reply
  // in the table.
  virtual void part_done(Part& part, int error) = 0;
  // Something of the backend's that people should know and that breaks nothing.
  virtual void warn(std::string_view text) = 0;

 protected:
  ~ReplySink() = default;
};

class Receiver {
 public:
  // Many small replies arrive in one receive of this size, and are copied out.
  static constexpr size_t kStagingBytes = 256 * 1024;
  // When at least this much of a payload is still to come, it is received where it belongs.
  static constexpr size_t kDirectBytes = 8 * 1024;

  enum class Outcome : uint8_t { kGoOn, kViolation, kBackendShutsDown };

  Receiver(RequestTable& table, const Sender& sender, bool structured);

  // Once, before anything else.
  void attach(ReplySink& sink) { sink_ = &sink; }

  // Says where the next receive puts its bytes. Valid until landed().
  std::span<const iovec> prepare();

  // A receive put bytes there. After anything but kGoOn the stream is useless, and reason() says
  // why.
  Outcome landed(size_t bytes);
  std::string_view reason() const { return reason_; }

 private:
  // What the next bytes of the stream are.
  enum class Phase : uint8_t {
    kReply,
    kDataHead,
    kHole,
    kPayload,
    kErrorHead,
    kErrorText,
    kErrorOffset
  };

  bool step();
  bool take_reply();
  bool take_simple_reply();
  bool take_chunk();
  bool take_data_head();
  bool take_hole();
  bool take_payload();
  bool take_error_head();
  bool take_error_text();
  bool take_error_offset();

  bool claim(uint64_t cookie);
  bool begin_chunk(const StructuredReply& reply);
  bool cover(uint64_t offset_bytes, uint32_t length_bytes);
  void expect_payload(std::byte* to, uint32_t length_bytes);
  bool note_error(uint32_t error);
  void report_error_text();
  void end_payload();
  void end_chunk();
  void finish_part();
  [[gnu::format(printf, 2, 3)]] bool violation(const char* format, ...);

  size_t available() const { return end_ - at_; }

  RequestTable& table_;
  const Sender& sender_;
  ReplySink* sink_ = nullptr;
  const bool structured_;

  Phase phase_ = Phase::kReply;
  Outcome outcome_ = Outcome::kGoOn;
  bool direct_ = false;      // the next receive writes to part_'s buffer first
  bool last_chunk_ = false;  // the chunk at hand carries kReplyFlagDone
  uint16_t chunk_type_ = 0;
  Part* part_ = nullptr;  // whose reply the bytes at hand belong to; set in every phase but kReply
  std::byte* payload_ = nullptr;
  uint32_t payload_left_ = 0;
  uint32_t chunk_left_ = 0;  // of the chunk's payload, as announced
  uint32_t text_left_ = 0;
  uint32_t text_kept_ = 0;

  // Staging: [at_, end_) is received and not yet taken.
  size_t at_ = 0;
  size_t end_ = 0;
  std::unique_ptr<std::byte[]> staging_;
  iovec iov_[2] = {};

  static constexpr size_t kTextKept = 160;
  char text_[kTextKept];
  char reason_[320] = "";
};

}  // namespace unbd::nbd
