// Owns: Mailbox, how other threads give a queue a command: a set of bits, the connection that one
// of them brings, and an eventfd that the ring reads. Runs on: post() from any thread, post_hold(),
// post_resume() and post_quiesce() from one at a time; the rest on the queue's thread. Must not:
// carry requests, or lock; a command posted twice before it is taken is one command.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "adapter/adapter.h"
#include "base/fd.h"

struct io_uring_sqe;

namespace unbd {

class Mailbox {
 public:
  enum Command : uint32_t {
    kFailAll = 1U << 0,
    kHold = 1U << 1,
    kResume = 1U << 2,
    kQuiesce = 1U << 3,
  };

  Mailbox();
  ~Mailbox();
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;
  int error() const { return error_; }  // 0, or -errno when there is no eventfd to wait on

  // Also before the queue's thread runs: it finds the command when it first waits.
  void post(Command command);
  // Of these two the later one holds, also where the queue has seen neither yet: a hold takes back
  // a resume, and of two resumes the first connection is closed.
  void post_hold();
  void post_resume(std::unique_ptr<BackendConnection> connection);
  // An odd round quiesces the queue, an even one ends that; the last one counts.
  void post_quiesce(uint32_t round);

  // Stages on a zeroed SQE the wait for the next post; the caller sets user_data.
  void stage_wait(io_uring_sqe* sqe);
  // The commands since the last call, after the CQE of stage_wait.
  uint32_t take() { return commands_.exchange(0, std::memory_order_acquire); }
  // How often post_hold() was called, at least up to the kHold that was taken last.
  uint32_t holds() const { return holds_.load(std::memory_order_acquire); }
  // With kQuiesce.
  uint32_t quiesce_round() const { return quiesce_round_.load(std::memory_order_acquire); }
  // With kResume, after kHold was obeyed: null when it was taken back.
  std::unique_ptr<BackendConnection> take_connection() { return replace_connection(nullptr); }

 private:
  std::unique_ptr<BackendConnection> replace_connection(BackendConnection* connection) {
    return std::unique_ptr<BackendConnection>(
        connection_.exchange(connection, std::memory_order_acq_rel));
  }

  Fd event_;
  int error_ = 0;
  uint64_t event_count_ = 0;  // where the ring's read lands
  std::atomic<uint32_t> commands_{0};
  std::atomic<uint32_t> holds_{0};
  std::atomic<uint32_t> quiesce_round_{0};
  std::atomic<BackendConnection*> connection_{nullptr};  // owned
};

}  // namespace unbd
