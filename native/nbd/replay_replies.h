// Owns: ReplayReplies, the requests of a replay that are under way, and the stream of replies.
// Runs on: replay_log()'s thread.
// Must not: do I/O, trust a byte of the stream, or ask for one that may not be a replay's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "nbd/log_replay.h"
#include "nbd/replay_source.h"
#include "nbd/wire.h"

namespace unbd::nbd {

class ReplayReplies {
 public:
  static constexpr unsigned kSlots = 32;

  ReplayReplies(bool structured, uint16_t epoch) : structured_(structured), epoch_(epoch) {}

  // There is a slot, and nothing under way overlaps request.
  bool has_room_for(const ReplayRequest& request) const;
  // request is under way; gives its cookie. All of it is sent when stream_end_bytes of the
  // connection's stream are.
  uint64_t add(const ReplayRequest& request, uint64_t stream_end_bytes);
  unsigned outstanding() const { return outstanding_; }

  // Where the next bytes go, and how many may be received that are surely ours: as many as the
  // shortest replies to what is under way take. 0 only if nothing is under way.
  std::byte* space() { return buffer_.data() + filled_; }
  size_t receivable_bytes() const;
  // bytes were put there, when sent_bytes of the stream had been sent. False: the replay is over,
  // and failure() says why.
  bool received(size_t bytes, uint64_t sent_bytes);
  const ReplayResult& failure() const { return failure_; }

 private:
  struct Slot {
    ReplayRequest request;
    uint64_t cookie = kNoCookie;  // kNoCookie: free
    uint64_t stream_end_bytes = 0;
    uint32_t chunks = 0;
    uint32_t error = 0;  // kError*, the first of its reply
  };

  // Longer than the longest chunk, so that there is always room for all of the next one.
  static constexpr size_t kBufferBytes = 8192;
  static_assert(sizeof(StructuredReply) + kErrorChunkBytesMax < kBufferBytes);
  // More error chunks than this in one reply only keep us busy.
  static constexpr uint32_t kChunksMax = 16;

  bool step();
  bool take_simple_reply();
  bool take_chunk();
  bool judge_chunk(const StructuredReply& reply, const Slot& slot);
  bool take_error(const StructuredReply& reply, Slot& slot);
  Slot* claim(uint64_t cookie);
  bool note_error(Slot& slot, uint32_t error);
  bool finish(Slot& slot);
  bool fail(ReplayResult::Outcome outcome, int error, const char* reason);
  [[gnu::format(printf, 2, 3)]] bool violation(const char* format, ...);
  size_t available() const { return filled_ - at_; }

  const bool structured_;
  const uint16_t epoch_;
  uint16_t next_generation_ = 0;
  unsigned outstanding_ = 0;
  uint64_t sent_bytes_ = 0;
  std::array<Slot, kSlots> slots_;
  ReplayResult failure_;
  // [at_, filled_) is received and not taken.
  size_t at_ = 0;
  size_t filled_ = 0;
  std::array<std::byte, kBufferBytes> buffer_;
};

}  // namespace unbd::nbd
