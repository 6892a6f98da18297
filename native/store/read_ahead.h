// Owns: ReadAhead, which tells from a device's reads what will be read next.
// Runs on: the queue's thread. Pure: it asks for nothing itself.
// Must not: allocate or read a clock.
#pragma once

#include <array>
#include <cstdint>

namespace unbd::store {

class ReadAhead {
 public:
  // What should be resident or on its way; empty: from == to.
  struct Range {
    uint64_t from = 0;
    uint64_t to = 0;
  };

  static constexpr unsigned kStreams = 8;
  static constexpr uint32_t kFirstWindowBytes = 128 << 10;
  // The kernel sends its own read-ahead in disorder: so far from where a stream is expected to go
  // on a read still belongs to it.
  static constexpr uint64_t kBehindBytes = 1 << 20;
  static constexpr uint64_t kAheadBytes = 512 << 10;

  // Of what a stream has read so far: neither is more than that read ahead of it, nor may a read be
  // further from where the stream was expected to go on. So random reads, which now and then come
  // to lie near each other, are no sequence and bring little that nobody asked for.
  static constexpr uint64_t kEvidence = 4;

  // Who reads so much at once has several such reads under way before the first one is answered,
  // which from a distant origin takes many round trips: the window does not wait for that.
  static constexpr uint64_t kLargeReadBytes = 512 << 10;

  // maximum_window_bytes 0: no read-ahead.
  ReadAhead(uint64_t size_bytes, uint32_t maximum_window_bytes)
      : size_bytes_(size_bytes), maximum_window_bytes_(maximum_window_bytes) {}

  // A read of [offset, end).
  Range on_read(uint64_t offset_bytes, uint64_t end_bytes);

 private:
  struct Stream {
    uint64_t next = 0;        // where it goes on
    uint64_t last_use = 0;    // 0: never
    uint64_t read_bytes = 0;  // while it moved on
    uint32_t window_bytes = 0;
  };

  Stream* find(uint64_t offset_bytes);
  Stream& least_recently_used();

  const uint64_t size_bytes_;
  const uint32_t maximum_window_bytes_;
  uint64_t uses_ = 0;
  std::array<Stream, kStreams> streams_{};
};

}  // namespace unbd::store
