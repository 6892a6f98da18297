// Owns: the beginning and the end of a Queue (see queue.h), and what reaches it besides requests.
// Runs on: the queue's thread.
// Must not: leave an SQE, a mapping or a registered file behind: DEL_DEV would wait for it.
#include <algorithm>
#include <cerrno>
#include <string>

#include "base/fatal.h"
#include "queue/queue.h"
#include "queue/queue_thread.h"
#include "ring/user_data.h"

namespace unbd {
namespace {

constexpr int64_t kStopDeadlineSeconds = 5;

// What a queue has in flight beyond one command and one adapter operation a tag: mailbox, deadline,
// cancellations.
constexpr unsigned kSpareEntries = 64;

}  // namespace

Queue::Queue(const QueuesConfig& config, unsigned index, QueuesListener& listener)
    : index_(index),
      depth_(config.depth),
      max_io_bytes_(config.max_io_bytes),
      size_bytes_(config.size_bytes),
      read_only_(config.read_only),
      user_copy_(config.data_path == DataPath::kUserCopy),
      suppress_partition_scan_(config.suppress_partition_scan),
      target_{.file_slot = -1, .queue = static_cast<uint16_t>(index)},
      tags_(config.depth),
      batch_(config.depth),
      parked_(config.depth),
      listener_(listener) {}

int Queue::open_ring(const CharDevice& device, const Adapter& adapter) {
  // A full SQ is submitted early, so it need not hold the worst case; every CQE must have room.
  int result = ring_.init({.entries = std::max(depth_, kSpareEntries),
                           .cq_entries = 2 * (depth_ + kSpareEntries) + adapter.further_sqes()});
  if (result < 0) return result;
  target_.file_slot = ring_.register_file(device.fd());
  return target_.file_slot < 0 ? target_.file_slot : 0;
}

int Queue::set_up(const CharDevice& device, std::unique_ptr<Adapter> adapter,
                  std::string* error_text) {
  char_device_fd_ = device.fd();
  *error_text = "cannot make an io_uring";
  if (int result = open_ring(device, *adapter); result < 0) return result;

  *error_text = "cannot map the request descriptors of the char device";
  if (int result = descriptors_.map(device, index_, depth_); result < 0) return result;

  *error_text = "cannot get memory for the request buffers";
  bool locked = false;
  if (int result = buffers_.map(depth_, max_io_bytes_, &locked); result < 0) return result;
  if (!locked) post("warning", "the request buffers cannot be locked in memory (RLIMIT_MEMLOCK)");

  *error_text = "cannot start the backend's adapter";
  adapter_ = std::move(adapter);
  if (int result = adapter_->start(ring_, *this, *this); result < 0) {
    adapter_.reset();
    return result;
  }

  *error_text = "cannot give up CAP_SYS_ADMIN, which suppresses the partition scan";
  if (int result = suppress_partition_scan_ ? drop_sys_admin() : 0; result < 0) return result;

  *error_text = "the driver refused to take the queue's tags";
  stage_mailbox_wait();
  fetch_all();
  if (int result = ring_.submit(); result < 0) return result;
  turn();
  // A FETCH that the driver refuses fails at once.
  if (fetch_error_ != 0) return fetch_error_;
  if (phase_ != Phase::kServing) return uapi::kIoResAbort;
  error_text->clear();
  return 0;
}

void Queue::fetch_all() {
  for (unsigned tag = 0; tag < depth_; ++tag) {
    io_uring_sqe* sqe = ring_.get_sqe();
    uint64_t address = user_copy_ ? 0 : reinterpret_cast<uintptr_t>(buffers_.of(tag));
    stage_fetch(sqe, target_, static_cast<uint16_t>(tag), address);
    sqe->user_data = make_user_data(UserDataKind::kUblk, tag);
    ++commands_with_driver_;
  }
}

void Queue::serve() {
  while (phase_ != Phase::kEnded) {
    int result = ring_.submit_and_wait();
    if (result < 0) fatal("io_uring_enter", index_, result);
    turn();
    if (fetch_error_ != 0) fatal("FETCH or COMMIT_AND_FETCH", index_, fetch_error_);
    if (phase_ != Phase::kServing) advance_end();
  }
}

void Queue::abandon() {
  if (adapter_ == nullptr) return;
  stop_adapter();
  while (!adapter_->stopped()) {
    int result = ring_.submit_and_wait();
    if (result < 0) fatal("io_uring_enter", index_, result);
    turn();
  }
}

// After an abort: first every request that we own and every command that the driver owns comes to
// its end, then the adapter.
void Queue::advance_end() {
  if (phase_ == Phase::kDraining && tags_.with_us() == 0 && commands_with_driver_ == 0) {
    stop_adapter();
  }
  if ((phase_ == Phase::kStopping || phase_ == Phase::kFailing) && adapter_->stopped())
    phase_ = Phase::kEnded;
}

void Queue::stop_adapter() {
  phase_ = Phase::kStopping;
  adapter_->stop();
  adapter_->end_turn();
  if (!adapter_->stopped()) stage_deadline();
}

void Queue::stage_deadline() {
  __kernel_timespec limit{.tv_sec = kStopDeadlineSeconds, .tv_nsec = 0};
  io_uring_sqe* sqe = ring_.get_sqe();
  io_uring_prep_timeout(sqe, &limit, 0, 0);
  sqe->user_data = make_user_data(UserDataKind::kTimer, 0);
  // The kernel reads limit when the SQE is submitted.
  if (int result = ring_.submit(); result < 0) fatal("io_uring_enter", index_, result);
}

void Queue::on_deadline() {
  if (phase_ != Phase::kStopping) fatal("the adapter does not stop", index_, -ETIMEDOUT);
  phase_ = Phase::kFailing;
  adapter_->fail_all(EIO);
  stage_deadline();
}

void Queue::stage_mailbox_wait() {
  io_uring_sqe* sqe = ring_.get_sqe();
  mailbox_.stage_wait(sqe);
  sqe->user_data = make_user_data(UserDataKind::kMailbox, 0);
}

void Queue::on_mailbox() {
  stage_mailbox_wait();
  const uint32_t commands = mailbox_.take();
  if ((commands & Mailbox::kHold) != 0) {
    adapter_->hold();
    post("held", std::to_string(mailbox_.holds()));
  }
  if ((commands & Mailbox::kResume) != 0) {
    std::unique_ptr<BackendConnection> connection = mailbox_.take_connection();
    if (connection != nullptr) adapter_->resume(std::move(connection));
  }
  if ((commands & Mailbox::kQuiesce) != 0) obey_quiesce();
  if ((commands & Mailbox::kFailAll) != 0) {
    adapter_->fail_all(EIO);
    unpark();
  }
}

// The request stays with the driver's descriptor: to the tag table it has not come yet.
void Queue::park(uint16_t tag) {
  UN_ASSERT(parked_count_ < depth_);
  parked_[parked_count_++] = tag;
}

// What was parked goes on as if it had come now.
void Queue::unpark() {
  quiesced_ = false;
  untold_round_ = 0;
  for (unsigned at = 0; at < parked_count_; ++at)
    on_request(parked_[at]);
  parked_count_ = 0;
}

void Queue::obey_quiesce() {
  const uint32_t round = mailbox_.quiesce_round();
  if (round % 2 == 0) {
    unpark();
    return;
  }
  quiesced_ = true;
  untold_round_ = round;
}

void Queue::tell_when_quiet() {
  if (tags_.with_us() > 0) return;
  post("quiesced", std::to_string(untold_round_));
  untold_round_ = 0;
}

void Queue::tear_down() {
  // The adapter may still hold registered files; the ring gives up all of them, the char device
  // among them, when it closes. Buffers go last: until then the kernel may write there.
  adapter_.reset();
  ring_.close();
  descriptors_.unmap();
  buffers_.unmap();
}

void Queue::post(std::string_view kind, std::string_view text) {
  listener_.on_event(index_, kind, text);
}

}  // namespace unbd
