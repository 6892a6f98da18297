// Owns: ErrorAdapter, the backend of a device that is FATAL: every request ends with EIO at once,
// so that nobody waits for what never comes. Runs on: its queue's thread. Must not: touch a buffer,
// or need anything that could fail.
#pragma once

#include "adapter/adapter.h"

namespace unbd {

class ErrorAdapter final : public Adapter {
 public:
  int start(Ring& ring, CompletionSink& sink, EventSink& events) override;
  void submit(std::span<const Request> batch) override;
  void on_cqe(uint64_t payload, int32_t result, uint32_t flags) override;
  void end_turn() override {}
  void fail_all(int) override {}  // it does nothing else
  void stop() override {}
  bool stopped() const override { return true; }

 private:
  CompletionSink* sink_ = nullptr;
};

}  // namespace unbd
