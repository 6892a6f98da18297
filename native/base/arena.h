// Owns: Arena, memory for the content of a device: of a memory: target, or chunks of a store.
// Runs on: any thread; who writes where is the users' affair.
// Must not: be taken before it is written: most of a large arena may never be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace unbd {

class Arena {
 public:
  // Reserves size_bytes (> 0) of zeroes. Returns 0 or -errno.
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

}  // namespace unbd
