// Owns: the implementation of ReplaySource (see replay_source.h).
// Runs on replay_log()'s thread.
// Must not: cut where the backend's smallest block would be cut.
#include "nbd/replay_source.h"

#include <algorithm>

#include "base/assert.h"

namespace unbd::nbd {

namespace {

// What zeroes are written from where the backend has no WRITE_ZEROES; as long as the longest
// smallest block that the specification allows.
constexpr uint32_t kZeroBytes = 64 * 1024;
alignas(4096) std::byte zeroes[kZeroBytes];  // never written, so it takes no memory

uint32_t align_down(uint32_t value, uint32_t alignment) {
  return std::max(value / alignment * alignment, alignment);
}

}  // namespace

ReplaySource::ReplaySource(const UnflushedLog& log, const ReplayConfig& config)
    : config_(config), reader_(log) {
  UN_ASSERT(config.minimum_block_bytes >= 1 && config.minimum_block_bytes <= kZeroBytes);
}

const ReplayRequest* ReplaySource::peek() {
  while (!has_request_) {
    if (left_bytes_ > 0) {
      cut();
    } else if (reader_.next(&entry_)) {
      // A trim leaves the content open, so not to repeat it breaks no promise.
      const bool is_left_out = entry_.kind == LogKind::kTrim && !config_.can_trim;
      left_bytes_ = is_left_out ? 0 : entry_.length_bytes;
    } else {
      return nullptr;
    }
  }
  return &request_;
}

// Makes a request of the next piece of the entry.
void ReplaySource::cut() {
  const bool is_write = entry_.kind == LogKind::kWrite;
  const bool has_command = entry_.kind == LogKind::kTrim || config_.can_write_zeroes;
  uint32_t bytes_max = config_.maximum_block_bytes;
  if (!is_write) bytes_max = has_command ? UINT32_MAX : std::min(bytes_max, kZeroBytes);
  bytes_max = align_down(bytes_max, config_.minimum_block_bytes);

  const uint64_t done_bytes = entry_.length_bytes - left_bytes_;
  request_ = {.offset_bytes = entry_.offset_bytes + done_bytes,
              .length_bytes = static_cast<uint32_t>(std::min<uint64_t>(left_bytes_, bytes_max))};
  if (is_write) {
    request_.payload = entry_.payload + done_bytes;
  } else if (!has_command) {
    request_.payload = zeroes;
  } else if (entry_.kind == LogKind::kTrim) {
    request_.command = Command::kTrim;
  } else {
    request_.command = Command::kWriteZeroes;
    if (entry_.kind == LogKind::kWriteZeroesNoHole) request_.flags = kCmdFlagNoHole;
  }
  left_bytes_ -= request_.length_bytes;
  has_request_ = true;
}

}  // namespace unbd::nbd
