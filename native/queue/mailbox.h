// Owns: Mailbox, how other threads give a queue a command: a set of bits and an eventfd that the
// ring reads.
// Runs on: post() from any thread; the rest on the queue's thread.
// Must not: carry requests or data; a command posted twice before it is taken is one command.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/fd.h"

struct io_uring_sqe;

namespace unbd {

class Mailbox {
 public:
  enum Command : uint32_t { kFailAll = 1U << 0 };

  Mailbox();
  int error() const { return error_; }  // 0, or -errno when there is no eventfd to wait on

  // Also before the queue's thread runs: it finds the command when it first waits.
  void post(Command command);

  // Stages on a zeroed SQE the wait for the next post; the caller sets user_data.
  void stage_wait(io_uring_sqe* sqe);
  // The commands since the last call, after the CQE of stage_wait.
  uint32_t take() { return commands_.exchange(0, std::memory_order_acquire); }

 private:
  Fd event_;
  int error_ = 0;
  uint64_t event_count_ = 0;  // where the ring's read lands
  std::atomic<uint32_t> commands_{0};
};

}  // namespace unbd
