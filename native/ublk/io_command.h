// Owns: what is staged on a queue's ring to fetch and commit requests. Inline: it runs once a
// request.
// Runs on: the queue's thread, the one that the driver binds the tag to.
// Must not: keep request state; that is the tag table's.
#pragma once

#include <liburing.h>

#include <cstdint>
#include <cstring>

#include "ublk/uapi.h"

namespace unbd {

// The ring's registered file that is the char device, and the queue's number: the same for every
// command.
struct IoCommandTarget {
  int file_slot;
  uint16_t queue;
};

inline void stage_io_command(io_uring_sqe* sqe, const IoCommandTarget& target, uint32_t opcode,
                             uint16_t tag, int32_t result, uint64_t buffer_address) {
  uapi::IoCmd command{.q_id = target.queue, .tag = tag, .result = result, .addr = buffer_address};
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->flags = IOSQE_FIXED_FILE;
  sqe->fd = target.file_slot;
  sqe->cmd_op = opcode;
  std::memcpy(sqe->cmd, &command, sizeof(command));
}

// Both take a zeroed SQE; the caller sets user_data. buffer_address is 0 on a user-copy device.
inline void stage_fetch(io_uring_sqe* sqe, const IoCommandTarget& target, uint16_t tag,
                        uint64_t buffer_address) {
  stage_io_command(sqe, target, uapi::kIoFetchReq, tag, 0, buffer_address);
}

inline void stage_commit_and_fetch(io_uring_sqe* sqe, const IoCommandTarget& target, uint16_t tag,
                                   int32_t result, uint64_t buffer_address) {
  stage_io_command(sqe, target, uapi::kIoCommitAndFetchReq, tag, result, buffer_address);
}

}  // namespace unbd
