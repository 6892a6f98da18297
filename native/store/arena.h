// Owns: Arena, the memory where the chunks of a store stand.
// Runs on: any thread; a source's thread writes what it was asked for, the queue's reads what has
// landed.
// Must not: be taken before it is written: most of a large arena may never be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace unbd::store {

class Arena {
 public:
  // size_bytes > 0. Returns 0 or -errno.
  static int create(uint64_t size_bytes, std::shared_ptr<Arena>* arena);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::byte* data() const { return data_; }
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  Arena(std::byte* data, uint64_t size_bytes) : data_(data), size_bytes_(size_bytes) {}

  std::byte* const data_;
  const uint64_t size_bytes_;
};

}  // namespace unbd::store
