// Owns: the request path of Queue: the turn of its loop, from the driver's descriptor to the
// adapter and from the adapter's result to COMMIT_AND_FETCH. Set-up and ending stand in
// queue_life.cc.
// Runs on: the queue's thread.
// Must not: allocate, lock, read a clock, or make a system call beyond the one wait a turn (and, on
// a user-copy device, the copies).
#include "queue/queue.h"

#include <unistd.h>

#include <cerrno>

#include "base/fatal.h"
#include "ring/user_data.h"

namespace unbd {

void Queue::turn() {
  batch_length_ = 0;
  ring_.reap([this](uint64_t user_data, int32_t result, uint32_t flags) {
    on_cqe(user_data, result, flags);
  });
  if (batch_length_ > 0) adapter_->submit({batch_.data(), batch_length_});
  adapter_->end_turn();
  counters_.set(QueueCounters::kInFlight, tags_.with_us());
  if (untold_round_ != 0) [[unlikely]]
    tell_when_quiet();
}

void Queue::on_cqe(uint64_t user_data, int32_t result, uint32_t flags) {
  switch (kind_of(user_data)) {
    case UserDataKind::kUblk:
      on_ublk_cqe(static_cast<uint16_t>(user_data), result);
      return;
    case UserDataKind::kAdapter:
      adapter_->on_cqe(payload_of(user_data), result, flags);
      return;
    case UserDataKind::kMailbox:
      on_mailbox();
      return;
    case UserDataKind::kTimer:
      on_deadline();
      return;
    case UserDataKind::kIgnored:
      return;
  }
  UN_ASSERT(!"a CQE of no kind");
}

void Queue::on_ublk_cqe(uint16_t tag, int32_t result) {
  UN_ASSERT(commands_with_driver_ > 0);
  --commands_with_driver_;
  if (result == uapi::kIoResOk) [[likely]] {
    if (quiesced_) [[unlikely]]
      park(tag);
    else
      on_request(tag);
  } else if (result == uapi::kIoResAbort) {
    // STOP waits for every request.
    unpark();
    if (phase_ == Phase::kServing) phase_ = Phase::kDraining;
  } else {
    fetch_error_ = result < 0 ? result : -EPROTO;
  }
}

void Queue::on_request(uint16_t tag) {
  tags_.fetch(tag);
  UN_ASSERT(batch_length_ < depth_);
  Request& request = batch_[batch_length_];
  if (!describe(tag, &request)) [[unlikely]] {
    refuse(tag, EOPNOTSUPP);
    return;
  }
  if (read_only_ && request.op != Op::kRead && request.op != Op::kFlush) [[unlikely]] {
    refuse(tag, EROFS);
    return;
  }
  if (user_copy_ && request.op == Op::kWrite) {
    ssize_t copied = ::pread(char_device_fd_, request.buffer, request.length_bytes,
                             static_cast<off_t>(user_copy_offset(index_, tag)));
    if (copied != static_cast<ssize_t>(request.length_bytes)) [[unlikely]] {
      refuse(tag, EIO);
      return;
    }
  }
  request.generation = tags_.submit(tag);
  ++batch_length_;
}

// The driver's words for a request become ours. False: an operation that we never offered.
bool Queue::describe(uint16_t tag, Request* request) {
  const uapi::IoDesc& descriptor = descriptors_[tag];
  // The flags are tested on op_flags itself: their values count from its bit 0.
  uint32_t op_flags = descriptor.op_flags;
  request->offset_bytes = descriptor.start_sector << uapi::kSectorShift;
  request->length_bytes = uint64_t{descriptor.nr_sectors} << uapi::kSectorShift;
  request->buffer = nullptr;
  request->tag = tag;
  request->fua = (op_flags & uapi::kIoFlagFua) != 0;
  request->no_unmap = false;
  switch (op_flags & uapi::kIoOpMask) {
    case uapi::kIoOpRead:
      request->op = Op::kRead;
      counters_.add(QueueCounters::kReads, 1);
      counters_.add(QueueCounters::kReadBytes, request->length_bytes);
      request->buffer = buffers_.of(tag);
      UN_ASSERT(request->length_bytes <= max_io_bytes_);
      break;
    case uapi::kIoOpWrite:
      request->op = Op::kWrite;
      counters_.add(QueueCounters::kWrites, 1);
      counters_.add(QueueCounters::kWriteBytes, request->length_bytes);
      request->buffer = buffers_.of(tag);
      UN_ASSERT(request->length_bytes <= max_io_bytes_);
      break;
    case uapi::kIoOpFlush:
      request->op = Op::kFlush;
      counters_.add(QueueCounters::kFlushes, 1);
      request->offset_bytes = 0;
      request->length_bytes = 0;
      request->fua = false;
      break;
    case uapi::kIoOpDiscard:
      request->op = Op::kDiscard;
      counters_.add(QueueCounters::kDiscards, 1);
      break;
    case uapi::kIoOpWriteZeroes:
      request->op = Op::kWriteZeroes;
      counters_.add(QueueCounters::kWriteZeroes, 1);
      request->no_unmap = (op_flags & uapi::kIoFlagNoUnmap) != 0;
      break;
    default:
      return false;
  }
  UN_ASSERT(request->offset_bytes <= size_bytes_ &&
            request->length_bytes <= size_bytes_ - request->offset_bytes);
  return true;
}

// Answered here; the adapter never sees it.
void Queue::refuse(uint16_t tag, int error) {
  tags_.refuse(tag);
  counters_.add(QueueCounters::kErrors, 1);
  commit(tag, -error);
}

void Queue::complete(uint16_t tag, uint16_t generation, int32_t result) {
  if (!tags_.complete(tag, generation)) [[unlikely]] {
    counters_.add(QueueCounters::kStaleCompletions, 1);
    return;
  }
  if (result < 0) [[unlikely]] {
    counters_.add(QueueCounters::kErrors, 1);
    // The block layer takes EAGAIN for "not without blocking" and ends the caller's I/O with it.
    commit(tag, result == -EAGAIN ? -EIO : result);
    return;
  }
  const uapi::IoDesc& descriptor = descriptors_[tag];
  uint32_t op = descriptor.op_flags & uapi::kIoOpMask;
  bool has_data = op == uapi::kIoOpRead || op == uapi::kIoOpWrite;
  uint32_t length_bytes = has_data ? descriptor.nr_sectors << uapi::kSectorShift : 0;
  UN_ASSERT(static_cast<uint32_t>(result) == length_bytes);
  if (user_copy_ && op == uapi::kIoOpRead) {
    ssize_t copied = ::pwrite(char_device_fd_, buffers_.of(tag), length_bytes,
                              static_cast<off_t>(user_copy_offset(index_, tag)));
    if (copied != result) [[unlikely]] {
      counters_.add(QueueCounters::kErrors, 1);
      result = -EIO;
    }
  }
  commit(tag, result);
}

void Queue::commit(uint16_t tag, int32_t result) {
  tags_.commit(tag);
  io_uring_sqe* sqe = ring_.get_sqe();
  uint64_t address = user_copy_ ? 0 : reinterpret_cast<uintptr_t>(buffers_.of(tag));
  stage_commit_and_fetch(sqe, target_, tag, result, address);
  sqe->user_data = make_user_data(UserDataKind::kUblk, tag);
  ++commands_with_driver_;
}

}  // namespace unbd
