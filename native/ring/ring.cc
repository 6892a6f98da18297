// Owns: the implementation of Ring (see ring.h).
// Runs on the thread that made the ring.
// Must not: retry or interpret the operations it carries.
#include "ring/ring.h"

#include <bit>
#include <cerrno>
#include <cstring>

namespace unbd {

Ring::~Ring() {
  close();
}

int Ring::init(const RingOptions& options) {
  UN_ASSERT(!open_);
  UN_ASSERT(options.cq_entries >= options.entries);
  io_uring_params params{};
  params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL;
  if (options.sqe128) params.flags |= IORING_SETUP_SQE128;
  params.cq_entries = options.cq_entries;
  int result = io_uring_queue_init_params(options.entries, &ring_, &params);
  if (result < 0) return result;
  result = io_uring_register_files_sparse(&ring_, kFileSlots);
  if (result < 0) {
    io_uring_queue_exit(&ring_);
    return result;
  }
  open_ = true;
  // Saves one descriptor look-up per io_uring_enter; optional, so its failure is no error.
  io_uring_register_ring_fd(&ring_);
  return 0;
}

void Ring::close() {
  if (!open_) return;
  // Closing a ring ends in the background; files given back here are free when this returns.
  io_uring_unregister_files(&ring_);
  used_file_slots_ = 0;
  io_uring_queue_exit(&ring_);
  open_ = false;
}

int Ring::register_file(int fd) {
  int slot = std::countr_one(used_file_slots_);
  if (slot >= kFileSlots) return -ENFILE;
  int result = io_uring_register_files_update(&ring_, static_cast<unsigned>(slot), &fd, 1);
  if (result != 1) return result < 0 ? result : -EIO;
  used_file_slots_ |= 1U << slot;
  return slot;
}

void Ring::unregister_file(int slot) {
  UN_ASSERT(slot >= 0 && slot < kFileSlots && ((used_file_slots_ >> slot) & 1) != 0);
  int none = -1;
  int result = io_uring_register_files_update(&ring_, static_cast<unsigned>(slot), &none, 1);
  UN_ASSERT(result == 1);
  used_file_slots_ &= ~(1U << slot);
}

io_uring_sqe* Ring::get_sqe() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  if (sqe == nullptr) {
    int result = submit();
    UN_ASSERT(result == 0);
    sqe = io_uring_get_sqe(&ring_);
    UN_ASSERT(sqe != nullptr);
  }
  // liburing's prep helpers differ between versions in which fields they reset.
  std::memset(sqe, 0, (ring_.flags & IORING_SETUP_SQE128) ? 2 * sizeof(*sqe) : sizeof(*sqe));
  return sqe;
}

int Ring::submit() {
  // EINTR: a signal; EAGAIN/EBUSY: the kernel is short of memory or of CQ room for the moment.
  for (;;) {
    int result = io_uring_submit(&ring_);
    if (result >= 0) return 0;
    if (result == -EINTR || result == -EAGAIN) continue;
    if (result == -EBUSY) return 0;
    return result;
  }
}

int Ring::submit_and_wait(int64_t timeout_ms) {
  int result = 0;
  if (timeout_ms < 0) {
    result = io_uring_submit_and_wait(&ring_, 1);
  } else {
    __kernel_timespec limit{};
    limit.tv_sec = timeout_ms / 1000;
    limit.tv_nsec = (timeout_ms % 1000) * 1'000'000;
    io_uring_cqe* cqe = nullptr;
    result = io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &limit, nullptr);
  }
  if (result >= 0 || result == -EINTR || result == -ETIME || result == -EAGAIN || result == -EBUSY)
    return 0;
  return result;
}

}  // namespace unbd
