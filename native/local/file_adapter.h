// Owns: FileAdapter, one queue's requests served from a file or block device by io_uring on the
// queue's own ring.
// Runs on: its queue's thread; the FileBackend is shared with the other queues' adapters.
// Must not: block the thread, or give a buffer back while the kernel may still use it: a request
// whose I/O has begun completes when that I/O has ended, also after fail_all (which asks the kernel
// to cancel it).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "adapter/adapter.h"
#include "local/file_backend.h"

struct io_uring_sqe;

namespace unbd {

class FileAdapter final : public Adapter {
 public:
  // depth: the tags are 0 … depth - 1.
  FileAdapter(std::shared_ptr<const FileBackend> backend, unsigned depth);
  ~FileAdapter() override;

  int start(Ring& ring, CompletionSink& sink, EventSink& events) override;
  void submit(std::span<const Request> batch) override;
  void on_cqe(uint64_t payload, int32_t result, uint32_t flags) override;
  void end_turn() override {}
  void fail_all(int error) override;
  void stop() override {}
  bool stopped() const override { return in_flight_ == 0; }

 private:
  // What the one SQE in flight for a tag does; a request may need several, one after another.
  enum class Step : uint8_t {
    kIdle,
    kTransfer,
    kPunchHole,
    kBlockDiscard,
    kZeroRange,
    kWriteZeroes,
    kSync,
  };
  struct Slot {
    Request request{};
    uint64_t done_bytes = 0;
    Step step = Step::kIdle;
  };

  Step first_step(const Request& request) const;
  void issue(Slot& slot, Step step);
  void stage_bytes(io_uring_sqe* sqe, const Slot& slot) const;
  void stage_range(io_uring_sqe* sqe, const Slot& slot, int mode) const;
  void stage_block_discard(io_uring_sqe* sqe, const Slot& slot) const;
  void after_bytes(Slot& slot, int32_t result);
  void after_range(Slot& slot, int32_t result);
  void finish(Slot& slot, int32_t result);

  std::shared_ptr<const FileBackend> backend_;
  Ring* ring_ = nullptr;
  CompletionSink* sink_ = nullptr;
  std::vector<Slot> slots_;
  unsigned in_flight_ = 0;
  int failure_ = 0;
  int file_slot_ = -1;    // of backend_->fd in the ring's table of registered files
  int direct_slot_ = -1;  // of backend_->direct_fd, or -1
  bool can_discard_ = true;
  bool can_punch_hole_ = true;
  bool can_zero_range_ = true;
};

}  // namespace unbd
