// Owns: MemoryRegion, the bytes of a memory: device, and MemoryAdapter, one queue's view of it.
// Runs on: each adapter on its queue's thread; all of a device's share one region, as sectors of
// one disk are shared.
// Must not: promise anything beyond the life of the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "adapter/adapter.h"

namespace unbd {

class MemoryRegion {
 public:
  // Reserves size_bytes (> 0) of zeroes; memory is taken when it is written. Returns 0 or -errno.
  static int create(uint64_t size_bytes, std::shared_ptr<MemoryRegion>* region);
  ~MemoryRegion();
  MemoryRegion(const MemoryRegion&) = delete;
  MemoryRegion& operator=(const MemoryRegion&) = delete;

  std::byte* data() { return data_; }
  uint64_t size_bytes() const { return size_bytes_; }

  // Makes a range read as zeroes, and gives whole pages back to the kernel where release is set.
  void clear(uint64_t offset_bytes, uint64_t length_bytes, bool release);

 private:
  MemoryRegion(std::byte* data, uint64_t size_bytes) : data_(data), size_bytes_(size_bytes) {}

  std::byte* data_;
  uint64_t size_bytes_;
};

class MemoryAdapter final : public Adapter {
 public:
  explicit MemoryAdapter(std::shared_ptr<MemoryRegion> region);

  int start(Ring& ring, CompletionSink& sink, EventSink& events) override;
  void submit(std::span<const Request> batch) override;
  void on_cqe(uint64_t payload, int32_t result, uint32_t flags) override;
  void end_turn() override {}
  void fail_all(int error) override { failure_ = error; }
  void stop() override {}
  bool stopped() const override { return true; }

 private:
  int32_t serve(const Request& request);

  std::shared_ptr<MemoryRegion> region_;
  CompletionSink* sink_ = nullptr;
  int failure_ = 0;
};

}  // namespace unbd
