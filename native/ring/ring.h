// Owns: one io_uring instance: set-up flags, SQE allocation, submission, reaping.
// Runs on: the one thread that called init() (SINGLE_ISSUER); no member may be called from another.
// Must not: know what an SQE is for; meaning lives in user_data.h and with the SQE's owner.
#pragma once

#include <liburing.h>

#include <cstdint>

#include "base/assert.h"

namespace unbd {

struct RingOptions {
  unsigned entries = 256;  // SQ entries; the kernel rounds up to a power of two
  // CQ entries, >= entries: every SQE in flight must have room for its CQE.
  unsigned cq_entries = 512;
  bool sqe128 = false;  // the ublk control ring needs 128-byte SQEs
};

class Ring {
 public:
  static constexpr int kFileSlots = 16;

  Ring() = default;
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Makes the ring for the calling thread. Returns 0 or -errno (-EPERM: io_uring is disabled;
  // io_uring_setup(2)).
  int init(const RingOptions& options);
  void close();
  bool is_open() const { return open_; }

  // Puts fd into the ring's table of registered files, which saves a look-up for each SQE that
  // names it by IOSQE_FIXED_FILE. Returns its slot, or -errno (-ENFILE: all kFileSlots are taken).
  // The ring holds its own reference until unregister_file() or close(); the caller still closes
  // fd.
  int register_file(int fd);
  void unregister_file(int slot);

  int fd() const { return ring_.ring_fd; }

  // A zeroed SQE; never null: a full SQ is submitted first. The caller sets all that it needs, and
  // user_data.
  io_uring_sqe* get_sqe();

  // Submits what is staged without waiting. Returns 0 or -errno.
  int submit();

  // Submits what is staged and waits for at least one CQE, or for timeout_ms when it is >= 0.
  // Returns 0 (also after a signal or the timeout), or -errno.
  int submit_and_wait(int64_t timeout_ms = -1);

  // Calls handler(user_data, res, flags) for every CQE that is there and frees them as one.
  // The handler may stage SQEs, but must not reap.
  template <typename Handler>
  unsigned reap(Handler&& handler) {
    unsigned head = 0;
    unsigned count = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      handler(cqe->user_data, cqe->res, cqe->flags);
      ++count;
    }
    if (count > 0) io_uring_cq_advance(&ring_, count);
    return count;
  }

 private:
  io_uring ring_{};
  bool open_ = false;
  uint32_t used_file_slots_ = 0;
};

}  // namespace unbd
