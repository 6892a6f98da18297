// Owns: MemoryRegion, the bytes of a memory: device, and MemoryAdapter, one queue's view of it.
// Runs on: each adapter on its queue's thread; all of a device's share one region, as sectors of
// one disk are shared.
// Must not: promise anything beyond the life of the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "adapter/adapter.h"
#include "base/arena.h"

namespace unbd {

class MemoryRegion {
 public:
  // Reserves size_bytes (> 0) of zeroes; memory is taken when it is written. Returns 0 or -errno.
  static int create(uint64_t size_bytes, std::shared_ptr<MemoryRegion>* region);

  std::byte* data() { return arena_->data(); }
  uint64_t size_bytes() const { return arena_->size_bytes(); }

  // Makes a range read as zeroes, and gives whole pages back to the kernel where release is set.
  void clear(uint64_t offset_bytes, uint64_t length_bytes, bool release);

 private:
  explicit MemoryRegion(std::shared_ptr<Arena> arena) : arena_(std::move(arena)) {}

  std::shared_ptr<Arena> arena_;
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
