// Owns: AdapterHarness, the queue's side of an Adapter for tests: a real ring, a sink that
// remembers, page aligned buffers.
// Runs on: the test's thread.
// Must not: tolerate a second completion of a request, or one with another generation.
#pragma once

#include <stdlib.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "adapter/adapter.h"
#include "base/assert.h"
#include "ring/ring.h"
#include "ring/user_data.h"

namespace unbd::test {

class AdapterHarness final : public CompletionSink, public EventSink {
 public:
  static constexpr unsigned kDepth = 16;
  static constexpr size_t kBufferBytes = 1024 * 1024;

  explicit AdapterHarness(std::unique_ptr<Adapter> adapter) : adapter_(std::move(adapter)) {
    UN_ASSERT(ring_.init({.entries = 64, .cq_entries = 256}) == 0);
    base_ = static_cast<std::byte*>(::aligned_alloc(4096, kDepth * kBufferBytes));
    std::memset(base_, 0, kDepth * kBufferBytes);
    start_result_ = adapter_->start(ring_, *this, *this);
  }
  // The adapter goes first, as in a queue; then the ring, then the buffers.
  ~AdapterHarness() {
    adapter_.reset();
    ring_.close();
    ::free(base_);
  }

  int start_result() const { return start_result_; }
  std::byte* buffer(unsigned tag) { return base_ + tag * kBufferBytes; }
  int32_t result(unsigned tag) const { return tags_[tag].result; }
  bool done(unsigned tag) const { return !tags_[tag].pending; }
  Adapter& adapter() { return *adapter_; }
  const std::vector<std::string>& events() const { return events_; }

  Request request(uint16_t tag, Op op, uint64_t offset_bytes, uint64_t length_bytes) {
    bool has_data = op == Op::kRead || op == Op::kWrite;
    Request made{.offset_bytes = offset_bytes, .length_bytes = length_bytes};
    made.buffer = has_data ? buffer(tag) : nullptr;
    made.tag = tag;
    made.op = op;
    return made;
  }

  // Hands a batch over as the queue does; finish() then waits for all of it.
  void submit(std::vector<Request> batch) {
    for (Request& each : batch) {
      UN_ASSERT(!tags_[each.tag].pending);
      tags_[each.tag].pending = true;
      each.generation = ++tags_[each.tag].generation;
      ++pending_;
    }
    adapter_->submit(batch);
    adapter_->end_turn();
  }
  void turn() {
    UN_ASSERT(ring_.submit_and_wait(60'000) == 0);
    ring_.reap([&](uint64_t user_data, int32_t cqe_result, uint32_t flags) {
      if (kind_of(user_data) == UserDataKind::kAdapter)
        adapter_->on_cqe(payload_of(user_data), cqe_result, flags);
    });
    adapter_->end_turn();
  }
  void finish() {
    while (pending_ > 0)
      turn();
  }
  // One request, to its end.
  int32_t run(const Request& one) {
    submit({one});
    finish();
    return result(one.tag);
  }
  int32_t run(Op op, uint64_t offset_bytes, uint64_t length_bytes) {
    return run(request(0, op, offset_bytes, length_bytes));
  }

  void complete(uint16_t tag, uint16_t generation, int32_t result) override {
    UN_ASSERT(tag < kDepth && tags_[tag].pending && tags_[tag].generation == generation);
    tags_[tag].pending = false;
    tags_[tag].result = result;
    --pending_;
  }
  void post(std::string_view kind, std::string_view text) override {
    events_.push_back(std::string(kind) + ": " + std::string(text));
  }

 private:
  struct Tag {
    bool pending = false;
    uint16_t generation = 0;
    int32_t result = 0;
  };

  std::unique_ptr<Adapter> adapter_;
  Ring ring_;
  std::byte* base_;
  int start_result_ = 0;
  unsigned pending_ = 0;
  Tag tags_[kDepth];
  std::vector<std::string> events_;
};

}  // namespace unbd::test
