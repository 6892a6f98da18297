// Owns: NullAdapter, the backend that keeps nothing: reads are zeroes, everything else succeeds at
// once.
// Runs on: its queue's thread. It is the ceiling that other adapters are measured against.
// Must not: touch a buffer more than the promise of zeroes needs.
#pragma once

#include <array>

#include "adapter/adapter.h"

namespace unbd {

class NullAdapter final : public Adapter {
 public:
  int start(Ring& ring, CompletionSink& sink, EventSink& events) override;
  void submit(std::span<const Request> batch) override;
  void on_cqe(uint64_t payload, int32_t result, uint32_t flags) override;
  void end_turn() override {}
  void fail_all(int error) override { failure_ = error; }
  void stop() override {}
  bool stopped() const override { return true; }

 private:
  static constexpr unsigned kMaxTags = 4096;

  CompletionSink* sink_ = nullptr;
  int failure_ = 0;
  // How many leading bytes of a tag's buffer a WRITE may have filled. The queue gives a tag one
  // buffer, zeroed at first, for ever; so a READ has to clear only these.
  std::array<uint32_t, kMaxTags> dirty_bytes_{};
};

}  // namespace unbd
