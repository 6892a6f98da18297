// Owns: one data buffer a tag, in one mapping: page aligned, zeroed at first, the same for the
// queue's whole life.
// Runs on: mapped by the queue's thread (so that the memory is near its processor).
// Must not: be unmapped before the ring is closed; the driver writes there.
#pragma once

#include <cstddef>
#include <cstdint>

namespace unbd {

class TagBuffers {
 public:
  TagBuffers() = default;
  ~TagBuffers() { unmap(); }
  TagBuffers(const TagBuffers&) = delete;
  TagBuffers& operator=(const TagBuffers&) = delete;

  // Returns 0 or -errno. *locked: the pages stay in memory once touched, so that serving I/O never
  // waits for swap.
  int map(unsigned depth, unsigned max_io_bytes, bool* locked);
  void unmap();
  std::byte* of(unsigned tag) const { return base_ + tag * stride_bytes_; }

 private:
  std::byte* base_ = nullptr;
  size_t stride_bytes_ = 0;
  size_t length_bytes_ = 0;
};

}  // namespace unbd
