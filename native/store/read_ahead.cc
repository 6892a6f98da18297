// Owns: the implementation of ReadAhead (see read_ahead.h).
// Runs on: the queue's thread.
// Must not: take one read for a sequence: a random read brings only what it covers.
#include "store/read_ahead.h"

#include <algorithm>

namespace unbd::store {

ReadAhead::Range ReadAhead::on_read(uint64_t offset_bytes, uint64_t end_bytes) {
  if (maximum_window_bytes_ == 0) return {};
  ++uses_;
  Stream* stream = find(offset_bytes);
  if (stream == nullptr) {
    least_recently_used() = {.next = end_bytes,
                             .last_use = uses_,
                             .read_bytes = end_bytes - offset_bytes,
                             .window_bytes = 0};
    return {};
  }
  stream->last_use = uses_;
  // What lies behind was read in disorder, or once more: the stream has not moved.
  if (end_bytes > stream->next) {
    stream->next = end_bytes;
    stream->read_bytes += end_bytes - offset_bytes;
    const bool is_large = end_bytes - offset_bytes >= kLargeReadBytes;
    const uint64_t wider =
        std::max<uint64_t>({kFirstWindowBytes, uint64_t{stream->window_bytes} * 2,
                            stream->read_bytes * (is_large ? kEvidence : 1)});
    stream->window_bytes = static_cast<uint32_t>(
        std::min<uint64_t>({wider, stream->read_bytes * kEvidence, maximum_window_bytes_}));
  }
  return {.from = std::min(stream->next, size_bytes_),
          .to = std::min(stream->next + stream->window_bytes, size_bytes_)};
}

// Of several streams to which it could belong, the one that it continues most closely.
ReadAhead::Stream* ReadAhead::find(uint64_t offset_bytes) {
  Stream* nearest = nullptr;
  uint64_t nearest_distance = UINT64_MAX;
  for (Stream& stream : streams_) {
    if (stream.last_use == 0) continue;
    const bool is_behind = offset_bytes < stream.next;
    const uint64_t distance = is_behind ? stream.next - offset_bytes : offset_bytes - stream.next;
    const uint64_t bound = std::min(is_behind ? kBehindBytes : stream.window_bytes + kAheadBytes,
                                    stream.read_bytes * kEvidence);
    if (distance > bound || distance >= nearest_distance) continue;
    nearest = &stream;
    nearest_distance = distance;
  }
  return nearest;
}

ReadAhead::Stream& ReadAhead::least_recently_used() {
  return *std::min_element(
      streams_.begin(), streams_.end(),
      [](const Stream& left, const Stream& right) { return left.last_use < right.last_use; });
}

}  // namespace unbd::store
