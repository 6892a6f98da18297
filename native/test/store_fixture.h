// Owns: StoreHarness, the queue's side of a StoreAdapter for tests (a real ring, buffers, a sink
// that judges what is completed), with a cache on disk or without, and the object that all tests
// read: its bytes follow from their offset.
// Runs on: the test's thread.
// Must not: tolerate a second completion, wrong bytes, or a wait without end.
#pragma once

#include <stdlib.h>

#include <atomic>
#include <cstring>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "ring/ring.h"
#include "ring/user_data.h"
#include "store/store_adapter.h"

namespace unbd::test {

inline uint64_t object_word(uint64_t offset_bytes) {
  return (offset_bytes / 8 + 1) * 0x9e3779b97f4a7c15U;
}
// Both are multiples of 8.
inline void write_object(std::byte* place, uint64_t offset_bytes, uint64_t length_bytes) {
  for (uint64_t at = 0; at < length_bytes; at += 8) {
    const uint64_t word = object_word(offset_bytes + at);
    std::memcpy(place + at, &word, 8);
  }
}
inline bool is_object(const std::byte* place, uint64_t offset_bytes, uint64_t length_bytes) {
  for (uint64_t at = 0; at < length_bytes; at += 8) {
    const uint64_t word = object_word(offset_bytes + at);
    if (std::memcmp(place + at, &word, 8) != 0) return false;
  }
  return true;
}

class TestDoorbell final : public Doorbell {
 public:
  void ring() override {
    rings.fetch_add(1, std::memory_order_release);
    rings.notify_one();
  }
  std::atomic<uint32_t> rings{0};
};

class StoreHarness final : public CompletionSink, public EventSink {
 public:
  static constexpr unsigned kDepth = 64;
  static constexpr size_t kBufferBytes = 1024 * 1024;

  explicit StoreHarness(const store::StoreConfig& config, store::CacheParts cache = {}) {
    UN_ASSERT(ring_.init({.entries = 64, .cq_entries = 1024}) == 0);
    parts_.cache = std::move(cache);
    base_ = static_cast<std::byte*>(::aligned_alloc(4096, kDepth * kBufferBytes));
    UN_ASSERT(Arena::create(config.memory_bytes, &parts_.arena) == 0);
    doorbell_ = std::make_shared<TestDoorbell>();
    parts_.bridge = std::make_shared<FillBridge>(doorbell_);
    parts_.counters = std::make_shared<store::StoreCounters>();
    adapter_ = std::make_unique<store::StoreAdapter>(config, parts_, kDepth);
    UN_ASSERT(adapter_->start(ring_, *this, *this) == 0);
  }
  ~StoreHarness() {
    end();
    ::free(base_);
  }
  // Stops the adapter and destroys it, as a queue does; what is shared stays.
  void end() {
    if (adapter_ == nullptr) return;
    adapter_->stop();
    while (!adapter_->stopped())
      turn();
    adapter_.reset();
    ring_.close();
  }

  const store::StoreParts& parts() const { return parts_; }
  TestDoorbell& doorbell() { return *doorbell_; }
  store::StoreAdapter& adapter() { return *adapter_; }
  unsigned in_flight() const { return in_flight_; }
  unsigned warnings() const { return warnings_; }
  bool done(unsigned tag) const { return !tags_[tag].pending; }
  int32_t result(unsigned tag) const { return tags_[tag].result; }
  uint64_t count(store::StoreCounters::Name name) const { return parts_.counters->get(name); }

  void submit(uint16_t tag, Op op, uint64_t offset_bytes, uint64_t length_bytes) {
    Tag& submitted = tags_[tag];
    UN_ASSERT(!submitted.pending && length_bytes <= kBufferBytes);
    submitted.pending = true;
    submitted.request = {.offset_bytes = offset_bytes,
                         .length_bytes = length_bytes,
                         .buffer = op == Op::kRead ? base_ + tag * kBufferBytes : nullptr,
                         .tag = tag,
                         .generation = ++submitted.generation,
                         .op = op};
    ++in_flight_;
    adapter_->submit({&submitted.request, 1});
    adapter_->end_turn();
  }
  void read(uint16_t tag, uint64_t offset_bytes, uint64_t length_bytes) {
    submit(tag, Op::kRead, offset_bytes, length_bytes);
  }
  int32_t run(Op op, uint64_t offset_bytes, uint64_t length_bytes) {
    submit(0, op, offset_bytes, length_bytes);
    UN_ASSERT(done(0));
    return result(0);
  }
  void turn() {
    UN_ASSERT(ring_.submit_and_wait(60'000) == 0);
    const unsigned count = ring_.reap([&](uint64_t user_data, int32_t cqe_result, uint32_t flags) {
      if (kind_of(user_data) == UserDataKind::kAdapter)
        adapter_->on_cqe(payload_of(user_data), cqe_result, flags);
    });
    UN_ASSERT(count > 0);  // else it hangs
    adapter_->end_turn();
  }

  void complete(uint16_t tag, uint16_t generation, int32_t result) override {
    Tag& completed = tags_[tag];
    UN_ASSERT(tag < kDepth && completed.pending && completed.generation == generation);
    completed.pending = false;
    completed.result = result;
    --in_flight_;
    const Request& request = completed.request;
    if (request.op != Op::kRead || result < 0) return;
    UN_ASSERT(static_cast<uint64_t>(result) == request.length_bytes);
    UN_ASSERT(is_object(request.buffer, request.offset_bytes, request.length_bytes));
  }
  void post(std::string_view severity, std::string_view) override {
    warnings_ += severity == "warning" ? 1 : 0;
  }

 private:
  struct Tag {
    Request request{};
    bool pending = false;
    uint16_t generation = 0;
    int32_t result = 0;
  };

  Ring ring_;
  std::byte* base_;
  store::StoreParts parts_;
  std::shared_ptr<TestDoorbell> doorbell_;
  std::unique_ptr<store::StoreAdapter> adapter_;
  unsigned in_flight_ = 0;
  unsigned warnings_ = 0;
  Tag tags_[kDepth];
};

}  // namespace unbd::test
