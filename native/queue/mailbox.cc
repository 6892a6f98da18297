// Owns: the implementation of Mailbox (see mailbox.h).
// Runs on: as said there.
// Must not: block.
#include "queue/mailbox.h"

#include <liburing.h>
#include <sys/eventfd.h>

#include <cerrno>

#include "base/assert.h"

namespace unbd {

Mailbox::Mailbox() : event_(::eventfd(0, EFD_CLOEXEC)) {
  if (!event_.valid()) error_ = -errno;
}

Mailbox::~Mailbox() {
  take_connection();
}

void Mailbox::post(Command command) {
  if (!event_.valid()) return;  // no thread will run
  commands_.fetch_or(command, std::memory_order_release);
  // Adds 1 to a 64-bit count, so it blocks only after 2^64 - 2 posts.
  int result = ::eventfd_write(event_.get(), 1);
  UN_ASSERT(result == 0);
}

void Mailbox::post_hold() {
  take_connection();
  holds_.fetch_add(1, std::memory_order_release);
  post(kHold);
}

void Mailbox::post_resume(std::unique_ptr<BackendConnection> connection) {
  replace_connection(connection.release());
  post(kResume);
}

void Mailbox::post_quiesce(uint32_t round) {
  quiesce_round_.store(round, std::memory_order_release);
  post(kQuiesce);
}

void Mailbox::stage_wait(io_uring_sqe* sqe) {
  io_uring_prep_read(sqe, event_.get(), &event_count_, sizeof(event_count_), 0);
}

}  // namespace unbd
