// Owns: the implementation of Control (see control.h).
// Runs on the thread that opened it.
// Must not: retry, or put a deadline on a command.
#include "ublk/control.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace unbd {
namespace {

constexpr const char* kControlPath = "/dev/ublk-control";
constexpr unsigned kMaxCpus = 8192;  // the kernel wants room for nr_cpu_ids bits

uapi::CtrlCmd device_command(uint32_t dev_id) {
  uapi::CtrlCmd command{};
  command.dev_id = dev_id;
  command.queue_id = uapi::kNoQueue;
  return command;
}

uapi::CtrlCmd value_command(uint32_t dev_id, uint64_t value) {
  uapi::CtrlCmd command = device_command(dev_id);
  command.data[0] = value;
  return command;
}

uapi::CtrlCmd buffer_command(uint32_t dev_id, void* buffer, size_t length_bytes) {
  uapi::CtrlCmd command = device_command(dev_id);
  command.addr = reinterpret_cast<uintptr_t>(buffer);
  command.len = static_cast<uint16_t>(length_bytes);
  return command;
}

}  // namespace

int Control::open(OpenStep* failed) {
  *failed = OpenStep::kDevice;
  fd_ = Fd(::open(kControlPath, O_RDWR | O_CLOEXEC));
  if (!fd_.valid()) return -errno;
  *failed = OpenStep::kRing;
  return ring_.init({.entries = 4, .cq_entries = 8, .sqe128 = true});
}

int Control::issue(uint32_t opcode, const uapi::CtrlCmd& command) {
  UN_ASSERT(ring_.is_open());
  io_uring_sqe* sqe = ring_.get_sqe();
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->fd = fd_.get();
  sqe->cmd_op = opcode;
  std::memcpy(sqe->cmd, &command, sizeof(command));
  bool answered = false;
  int32_t answer = 0;
  while (!answered) {
    int result = ring_.submit_and_wait();
    if (result < 0) return result;
    ring_.reap([&](uint64_t, int32_t cqe_result, uint32_t) {
      answered = true;
      answer = cqe_result;
    });
  }
  return answer;
}

int Control::get_features(uint64_t* features) {
  *features = 0;
  uapi::CtrlCmd command = buffer_command(uapi::kAnyDevId, features, uapi::kFeaturesLen);
  return issue(uapi::kCmdGetFeatures, command);
}

int Control::add_dev(uapi::CtrlDevInfo* info) {
  return issue(uapi::kCmdAddDev, buffer_command(info->dev_id, info, sizeof(*info)));
}

int Control::set_params(uint32_t dev_id, uapi::Params* params) {
  params->len = sizeof(*params);
  return issue(uapi::kCmdSetParams, buffer_command(dev_id, params, sizeof(*params)));
}

int Control::get_params(uint32_t dev_id, uapi::Params* params) {
  *params = {};
  params->len = sizeof(*params);
  return issue(uapi::kCmdGetParams, buffer_command(dev_id, params, sizeof(*params)));
}

int Control::start_dev(uint32_t dev_id, int32_t server_pid) {
  return issue(uapi::kCmdStartDev, value_command(dev_id, static_cast<uint64_t>(server_pid)));
}

int Control::stop_dev(uint32_t dev_id) {
  return issue(uapi::kCmdStopDev, device_command(dev_id));
}

int Control::try_stop_dev(uint32_t dev_id) {
  return issue(uapi::kCmdTryStopDev, device_command(dev_id));
}

int Control::del_dev(uint32_t dev_id) {
  return issue(uapi::kCmdDelDev, device_command(dev_id));
}

int Control::del_dev_async(uint32_t dev_id) {
  return issue(uapi::kCmdDelDevAsync, device_command(dev_id));
}

int Control::get_dev_info(uint32_t dev_id, uapi::CtrlDevInfo* info) {
  *info = {};
  return issue(uapi::kCmdGetDevInfo, buffer_command(dev_id, info, sizeof(*info)));
}

int Control::get_dev_info2(uint32_t dev_id, const std::string& char_device_path,
                           uapi::CtrlDevInfo* info) {
  // The buffer is the path with its NUL, then the answer.
  size_t path_bytes = char_device_path.size() + 1;
  std::vector<char> buffer(path_bytes + sizeof(*info));
  if (buffer.size() > UINT16_MAX) return -ENAMETOOLONG;
  std::memcpy(buffer.data(), char_device_path.c_str(), path_bytes);
  uapi::CtrlCmd command = buffer_command(dev_id, buffer.data(), buffer.size());
  command.dev_path_len = static_cast<uint16_t>(path_bytes);
  int result = issue(uapi::kCmdGetDevInfo2, command);
  std::memcpy(info, buffer.data() + path_bytes, sizeof(*info));
  return result;
}

int Control::get_queue_affinity(uint32_t dev_id, uint16_t queue, std::vector<unsigned>* cpus) {
  uint64_t mask[kMaxCpus / 64] = {};
  uapi::CtrlCmd command = buffer_command(dev_id, mask, sizeof(mask));
  command.data[0] = queue;
  int result = issue(uapi::kCmdGetQueueAffinity, command);
  cpus->clear();
  for (unsigned cpu = 0; result >= 0 && cpu < kMaxCpus; ++cpu)
    if ((mask[cpu / 64] >> (cpu % 64)) & 1) cpus->push_back(cpu);
  return std::min(result, 0);
}

int Control::start_user_recovery(uint32_t dev_id) {
  return issue(uapi::kCmdStartUserRecovery, device_command(dev_id));
}

int Control::end_user_recovery(uint32_t dev_id, int32_t server_pid) {
  return issue(uapi::kCmdEndUserRecovery, value_command(dev_id, static_cast<uint64_t>(server_pid)));
}

int Control::update_size(uint32_t dev_id, uint64_t sectors) {
  return issue(uapi::kCmdUpdateSize, value_command(dev_id, sectors));
}

int Control::quiesce_dev(uint32_t dev_id, uint64_t timeout_ms) {
  return issue(uapi::kCmdQuiesceDev, value_command(dev_id, timeout_ms));
}

}  // namespace unbd
