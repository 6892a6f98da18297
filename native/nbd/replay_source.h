// Owns: ReplaySource, which cuts the entries of the unflushed log into requests that a backend
// takes.
// Runs on: replay_log()'s thread.
// Must not: change the entries' order, or promise less than an entry did.
#pragma once

#include <cstddef>
#include <cstdint>

#include "nbd/log_replay.h"
#include "nbd/unflushed_log.h"
#include "nbd/wire.h"

namespace unbd::nbd {

// One request of a replay. Neither its offset nor its end exceeds 2^63.
struct ReplayRequest {
  Command command = Command::kWrite;
  uint16_t flags = 0;
  uint64_t offset_bytes = 0;
  uint32_t length_bytes = 0;
  const std::byte* payload = nullptr;  // of kWrite: length_bytes

  bool overlaps(const ReplayRequest& other) const {
    return offset_bytes < other.offset_bytes + other.length_bytes &&
           other.offset_bytes < offset_bytes + length_bytes;
  }
};

class ReplaySource {
 public:
  ReplaySource(const UnflushedLog& log, const ReplayConfig& config);

  // The next request; null at the end.
  const ReplayRequest* peek();
  void pop() { has_request_ = false; }

 private:
  void cut();

  const ReplayConfig config_;
  LogReader reader_;
  LogEntry entry_{};
  uint64_t left_bytes_ = 0;  // of entry_, not cut off yet
  ReplayRequest request_;
  bool has_request_ = false;
};

}  // namespace unbd::nbd
