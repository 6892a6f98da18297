// Owns: the implementation of FileAdapter (see file_adapter.h).
// Runs on its queue's thread.
// Must not: block the thread, or give a buffer back while the kernel may still use it.
#include "local/file_adapter.h"

#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/assert.h"
#include "ring/ring.h"
#include "ring/user_data.h"

namespace unbd {
namespace {

// What zeroes are written from where the file system has no other way. Never written to.
constexpr size_t kZeroesBytes = 256 * 1024;
alignas(4096) std::byte zeroes[kZeroesBytes];

// BLOCK_URING_CMD_DISCARD of linux/blkdev.h, Linux 6.12: _IO(0x12, 0).
constexpr uint32_t kBlockUringCmdDiscard = 0x12 << 8;

uint64_t user_data_of(uint16_t tag) {
  return make_user_data(UserDataKind::kAdapter, tag);
}

}  // namespace

FileAdapter::FileAdapter(std::shared_ptr<const FileBackend> backend, unsigned depth)
    : backend_(std::move(backend)), slots_(depth) {}

FileAdapter::~FileAdapter() {
  UN_ASSERT(in_flight_ == 0);
  if (file_slot_ >= 0) ring_->unregister_file(file_slot_);
  if (direct_slot_ >= 0) ring_->unregister_file(direct_slot_);
}

int FileAdapter::start(Ring& ring, CompletionSink& sink, EventSink&) {
  ring_ = &ring;
  sink_ = &sink;
  file_slot_ = ring.register_file(backend_->fd.get());
  if (file_slot_ < 0) return file_slot_;
  if (!backend_->direct_fd.valid()) return 0;
  direct_slot_ = ring.register_file(backend_->direct_fd.get());
  return std::min(direct_slot_, 0);
}

void FileAdapter::submit(std::span<const Request> batch) {
  for (const Request& request : batch) {
    if (failure_ != 0) [[unlikely]] {
      sink_->complete(request.tag, request.generation, -failure_);
      continue;
    }
    UN_ASSERT(request.tag < slots_.size());
    Slot& slot = slots_[request.tag];
    UN_ASSERT(slot.step == Step::kIdle);
    slot.request = request;
    slot.done_bytes = 0;
    ++in_flight_;
    Step step = first_step(request);
    // A discard is a hint: where the backend takes none there is nothing to do.
    if (step == Step::kIdle)
      finish(slot, 0);
    else
      issue(slot, step);
  }
}

FileAdapter::Step FileAdapter::first_step(const Request& request) const {
  switch (request.op) {
    case Op::kRead:
    case Op::kWrite:
      return Step::kTransfer;
    case Op::kFlush:
      return Step::kSync;
    case Op::kDiscard:
      if (!can_discard_) return Step::kIdle;
      return backend_->is_block_device ? Step::kBlockDiscard : Step::kPunchHole;
    case Op::kWriteZeroes:
      if (!request.no_unmap && can_punch_hole_) return Step::kPunchHole;
      return can_zero_range_ ? Step::kZeroRange : Step::kWriteZeroes;
  }
  UN_ASSERT(!"an operation that does not exist");
}

void FileAdapter::issue(Slot& slot, Step step) {
  io_uring_sqe* sqe = ring_->get_sqe();
  slot.step = step;
  switch (step) {
    case Step::kTransfer:
    case Step::kWriteZeroes:
      stage_bytes(sqe, slot);
      break;
    case Step::kPunchHole:
      stage_range(sqe, slot, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
      break;
    case Step::kBlockDiscard:
      stage_block_discard(sqe, slot);
      break;
    case Step::kZeroRange:
      stage_range(sqe, slot, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
      break;
    case Step::kSync:
      io_uring_prep_fsync(sqe, file_slot_, IORING_FSYNC_DATASYNC);
      sqe->flags |= IOSQE_FIXED_FILE;
      break;
    case Step::kIdle:
      UN_ASSERT(!"idle is no step");
  }
  sqe->user_data = user_data_of(slot.request.tag);
}

// What is left of a READ, a WRITE, or the zeroes of a WRITE_ZEROES.
void FileAdapter::stage_bytes(io_uring_sqe* sqe, const Slot& slot) const {
  const Request& request = slot.request;
  uint64_t offset_bytes = request.offset_bytes + slot.done_bytes;
  uint64_t left_bytes = request.length_bytes - slot.done_bytes;
  std::byte* buffer = request.buffer + slot.done_bytes;
  if (slot.step == Step::kWriteZeroes) {
    left_bytes = std::min<uint64_t>(left_bytes, kZeroesBytes);
    buffer = zeroes;
  }
  bool direct =
      direct_slot_ >= 0 && ((offset_bytes | left_bytes) & (backend_->direct_align_bytes - 1)) == 0;
  int file_slot = direct ? direct_slot_ : file_slot_;
  unsigned length = static_cast<unsigned>(left_bytes);
  if (request.op == Op::kRead) {
    io_uring_prep_read(sqe, file_slot, buffer, length, offset_bytes);
  } else {
    io_uring_prep_write(sqe, file_slot, buffer, length, offset_bytes);
    if (request.fua) sqe->rw_flags = RWF_DSYNC;
  }
  sqe->flags |= IOSQE_FIXED_FILE;
}

void FileAdapter::stage_range(io_uring_sqe* sqe, const Slot& slot, int mode) const {
  io_uring_prep_fallocate(sqe, file_slot_, mode, static_cast<off_t>(slot.request.offset_bytes),
                          static_cast<off_t>(slot.request.length_bytes));
  sqe->flags |= IOSQE_FIXED_FILE;
}

// A hole punched into a block device would be written with zeroes by many.
void FileAdapter::stage_block_discard(io_uring_sqe* sqe, const Slot& slot) const {
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->flags = IOSQE_FIXED_FILE;
  sqe->fd = file_slot_;
  sqe->cmd_op = kBlockUringCmdDiscard;
  sqe->addr = slot.request.offset_bytes;
  sqe->addr3 = slot.request.length_bytes;
}

void FileAdapter::on_cqe(uint64_t payload, int32_t result, uint32_t) {
  UN_ASSERT(payload < slots_.size());
  Slot& slot = slots_[payload];
  if (failure_ != 0) [[unlikely]] {
    finish(slot, -failure_);
    return;
  }
  switch (slot.step) {
    case Step::kTransfer:
    case Step::kWriteZeroes:
      after_bytes(slot, result);
      return;
    case Step::kPunchHole:
    case Step::kBlockDiscard:
    case Step::kZeroRange:
      after_range(slot, result);
      return;
    case Step::kSync:
      finish(slot, std::min(result, 0));
      return;
    case Step::kIdle:
      UN_ASSERT(!"a CQE without a request");
  }
}

void FileAdapter::after_bytes(Slot& slot, int32_t result) {
  if (result == -EINTR) {
    issue(slot, slot.step);
    return;
  }
  // Zero bytes: the file has become shorter than the device, or the disk took nothing.
  if (result <= 0) {
    finish(slot, result < 0 ? result : -EIO);
    return;
  }
  slot.done_bytes += static_cast<uint32_t>(result);
  if (slot.done_bytes < slot.request.length_bytes) {
    issue(slot, slot.step);
    return;
  }
  bool has_data = slot.step == Step::kTransfer;
  finish(slot, has_data ? static_cast<int32_t>(slot.request.length_bytes) : 0);
}

void FileAdapter::after_range(Slot& slot, int32_t result) {
  const Request& request = slot.request;
  if (result == -EINTR) {
    issue(slot, slot.step);
    return;
  }
  if (result == 0) {
    if (request.fua)
      issue(slot, Step::kSync);
    else
      finish(slot, 0);
    return;
  }
  // EINVAL: a block device whose blocks are larger than this request's alignment.
  if (result != -EOPNOTSUPP && result != -EINVAL) {
    finish(slot, result);
    return;
  }
  bool supported = result == -EINVAL;
  if (request.op == Op::kDiscard) {
    can_discard_ = supported;
    finish(slot, 0);
    return;
  }
  bool punching = slot.step == Step::kPunchHole;
  (punching ? can_punch_hole_ : can_zero_range_) = supported;
  issue(slot, punching && can_zero_range_ ? Step::kZeroRange : Step::kWriteZeroes);
}

void FileAdapter::finish(Slot& slot, int32_t result) {
  slot.step = Step::kIdle;
  --in_flight_;
  sink_->complete(slot.request.tag, slot.request.generation, result);
}

void FileAdapter::fail_all(int error) {
  failure_ = error;
  for (const Slot& slot : slots_) {
    if (slot.step == Step::kIdle) continue;
    io_uring_sqe* sqe = ring_->get_sqe();
    io_uring_prep_cancel64(sqe, user_data_of(slot.request.tag), 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = make_user_data(UserDataKind::kIgnored, 0);
  }
}

}  // namespace unbd
