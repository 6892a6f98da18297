// Owns: the implementation of the control commands (see control_commands.h). Runs in the helper
// process.
// Must not: put a deadline on a command (patience is for the driver's EBUSY only); the caller has
// one.
#include "helper/control_commands.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <iterator>
#include <vector>

#include "base/clock.h"
#include "base/errno_name.h"
#include "base/fd.h"
#include "helper/answer.h"
#include "helper/arguments.h"
#include "helper/disconnect.h"
#include "ublk/control.h"
#include "ublk/names.h"

namespace unbd {
namespace {

constexpr uint64_t kMaxDevId = (1 << 20) - 1;
constexpr uint64_t kMaxPid = INT32_MAX;
constexpr uint64_t kDefaultFlushTimeoutMs = 5000;
constexpr uint64_t kMaxFlushTimeoutMs = 86'400'000;
constexpr uint64_t kMaxReleasePatienceMs = 600'000;
constexpr long kBusyPauseNs = 10'000'000;

void add_features(uint64_t flags, std::string_view key, JsonObject* fields) {
  std::vector<std::string_view> names;
  for (unsigned bit = 0; bit < kFeatureBits; ++bit)
    if ((flags >> bit) & 1) names.push_back(feature_name(bit));
  fields->add(key, flags).add_list("names", names);
}

uint32_t id_of(Arguments& arguments) {
  return static_cast<uint32_t>(arguments.required_number("id", kMaxDevId));
}

int32_t pid_of(Arguments& arguments) {
  return static_cast<int32_t>(arguments.required_number("pid", kMaxPid));
}

// A command reads its arguments, returns where they are wrong (run() looks), then acts.
using Command = void (*)(Control&, Arguments&, Answer*);

void features(Control& control, Arguments& arguments, Answer* answer) {
  uint64_t flags = 0;
  if (!arguments.error().empty()) return;
  if (answer->check(control.get_features(&flags), "features"))
    add_features(flags, "features", &answer->fields);
}

uapi::CtrlDevInfo device_info(Arguments& arguments) {
  uapi::CtrlDevInfo info{};
  bool any_id = !arguments.has("id");
  info.dev_id = any_id ? uapi::kAnyDevId : id_of(arguments);
  info.nr_hw_queues = static_cast<uint16_t>(arguments.required_number("queues", uapi::kMaxQueues));
  info.queue_depth =
      static_cast<uint16_t>(arguments.required_number("depth", uapi::kMaxQueueDepth));
  info.max_io_buf_bytes =
      static_cast<uint32_t>(arguments.required_number("max_io_bytes", 32 * 1024 * 1024));
  info.flags = arguments.features("flags") | uapi::kFeatureCmdIoctlEncode;
  return info;
}

uapi::Params device_params(Arguments& arguments) {
  auto word = [&](const char* key) {
    return static_cast<uint32_t>(arguments.number(key, UINT32_MAX, 0));
  };
  auto shift = [&](const char* key, uint64_t fallback) {
    return static_cast<uint8_t>(arguments.number(key, 63, fallback));
  };
  uapi::Params params{};
  params.types = uapi::kParamTypeBasic;
  params.basic.attrs = word("attrs");
  params.basic.logical_bs_shift = shift("logical_bs_shift", 9);
  params.basic.physical_bs_shift = shift("physical_bs_shift", params.basic.logical_bs_shift);
  params.basic.io_opt_shift = shift("io_opt_shift", params.basic.physical_bs_shift);
  params.basic.io_min_shift = shift("io_min_shift", params.basic.logical_bs_shift);
  params.basic.max_sectors =
      static_cast<uint32_t>(arguments.required_number("max_sectors", UINT32_MAX));
  params.basic.chunk_sectors = word("chunk_sectors");
  params.basic.dev_sectors = arguments.required_number("dev_sectors", UINT64_MAX >> 9);
  if (!arguments.has("discard_granularity")) return params;
  params.types |= uapi::kParamTypeDiscard;
  params.discard.discard_alignment = word("discard_alignment");
  params.discard.discard_granularity = word("discard_granularity");
  params.discard.max_discard_sectors = word("max_discard_sectors");
  params.discard.max_write_zeroes_sectors = word("max_write_zeroes_sectors");
  params.discard.max_discard_segments =
      static_cast<uint16_t>(arguments.number("max_discard_segments", 1, 1));
  return params;
}

void add(Control& control, Arguments& arguments, Answer* answer) {
  uapi::CtrlDevInfo info = device_info(arguments);
  uapi::Params params = device_params(arguments);
  if (!arguments.error().empty()) return;
  if (!answer->check(control.add_dev(&info), "ADD_DEV")) return;
  // A request that is larger than a tag's buffer could not be copied.
  params.basic.max_sectors =
      std::min(params.basic.max_sectors, info.max_io_buf_bytes >> uapi::kSectorShift);
  if (!answer->check(control.set_params(info.dev_id, &params), "SET_PARAMS")) {
    control.del_dev(info.dev_id);
    return;
  }
  answer->fields.add("dev_id", info.dev_id)
      .add("queues", info.nr_hw_queues)
      .add("depth", info.queue_depth)
      .add("max_io_bytes", info.max_io_buf_bytes);
  add_features(info.flags, "flags", &answer->fields);
}

void start(Control& control, Arguments& arguments, Answer* answer) {
  uint32_t id = id_of(arguments);
  int32_t pid = pid_of(arguments);
  if (arguments.error().empty()) answer->check(control.start_dev(id, pid), "START_DEV");
}

void stop(Control& control, Arguments& arguments, Answer* answer) {
  uint32_t id = id_of(arguments);
  if (arguments.error().empty()) answer->check(control.stop_dev(id), "STOP_DEV");
}

void disconnect_disk(Control& control, Arguments& arguments, Answer* answer) {
  DisconnectRequest request;
  request.dev_id = id_of(arguments);
  request.path = arguments.text("path", "/dev/ublkb" + std::to_string(request.dev_id));
  request.force = arguments.flag("force");
  request.flush_timeout_ms = static_cast<int>(
      arguments.number("flush_timeout_ms", kMaxFlushTimeoutMs, kDefaultFlushTimeoutMs));
  if (arguments.error().empty()) disconnect(control, request, answer);
}

void del(Control& control, Arguments& arguments, Answer* answer) {
  uint32_t id = id_of(arguments);
  if (arguments.error().empty()) answer->check(control.del_dev(id), "DEL_DEV");
}

void del_async(Control& control, Arguments& arguments, Answer* answer) {
  uint32_t id = id_of(arguments);
  if (arguments.error().empty()) answer->check(control.del_dev_async(id), "DEL_DEV_ASYNC");
}

void info_of(Control& control, Arguments& arguments, Answer* answer) {
  uint32_t id = id_of(arguments);
  if (!arguments.error().empty()) return;
  uapi::CtrlDevInfo info;
  uapi::Params params;
  int result = control.get_dev_info(id, &info);
  // A device of an unprivileged owner is only told to those who name its char device.
  if (result == -EINVAL || result == -EPERM || result == -EACCES)
    result = control.get_dev_info2(id, "/dev/ublkc" + std::to_string(id), &info);
  if (!answer->check(result, "GET_DEV_INFO")) return;
  if (!answer->check(control.get_params(id, &params), "GET_PARAMS")) return;
  answer->fields.add("dev_id", info.dev_id)
      .add("state", device_state_name(info.state))
      .add_signed("pid", info.ublksrv_pid)
      .add("queues", info.nr_hw_queues)
      .add("depth", info.queue_depth)
      .add("max_io_bytes", info.max_io_buf_bytes);
  add_features(info.flags, "flags", &answer->fields);
  answer->fields.add("attrs", params.basic.attrs)
      .add("logical_bs_shift", params.basic.logical_bs_shift)
      .add("physical_bs_shift", params.basic.physical_bs_shift)
      .add("io_opt_shift", params.basic.io_opt_shift)
      .add("io_min_shift", params.basic.io_min_shift)
      .add("max_sectors", params.basic.max_sectors)
      .add("chunk_sectors", params.basic.chunk_sectors)
      .add("dev_sectors", params.basic.dev_sectors)
      .add("discard_granularity", params.discard.discard_granularity)
      .add("max_discard_sectors", params.discard.max_discard_sectors)
      .add("max_write_zeroes_sectors", params.discard.max_write_zeroes_sectors)
      .add("char_major", params.devt.char_major)
      .add("char_minor", params.devt.char_minor)
      .add("disk_major", params.devt.disk_major)
      .add("disk_minor", params.devt.disk_minor);
}

void affinity(Control& control, Arguments& arguments, Answer* answer) {
  uint32_t id = id_of(arguments);
  auto queue = static_cast<uint16_t>(arguments.required_number("queue", uapi::kMaxQueues - 1));
  if (!arguments.error().empty()) return;
  std::vector<unsigned> cpus;
  if (answer->check(control.get_queue_affinity(id, queue, &cpus), "GET_QUEUE_AFFINITY"))
    answer->fields.add_list("cpus", cpus);
}

void update_size(Control& control, Arguments& arguments, Answer* answer) {
  uint32_t id = id_of(arguments);
  uint64_t sectors = arguments.required_number("dev_sectors", UINT64_MAX >> 9);
  if (arguments.error().empty()) answer->check(control.update_size(id, sectors), "UPDATE_SIZE");
}

// The dead process's char device is released after its end; until then the driver is busy.
int start_user_recovery_with_patience(Control& control, uint32_t id, uint64_t patience_ms) {
  uint64_t give_up_ms = monotonic_ms() + patience_ms;
  for (;;) {
    int result = control.start_user_recovery(id);
    if (result != -EBUSY || monotonic_ms() >= give_up_ms) return result;
    timespec pause{.tv_sec = 0, .tv_nsec = kBusyPauseNs};
    ::nanosleep(&pause, nullptr);
  }
}

void recover_start(Control& control, Arguments& arguments, Answer* answer) {
  uint32_t id = id_of(arguments);
  uint64_t patience_ms = arguments.number("patience_ms", kMaxReleasePatienceMs, 0);
  if (!arguments.error().empty()) return;
  answer->check(start_user_recovery_with_patience(control, id, patience_ms), "START_USER_RECOVERY");
}

void recover_end(Control& control, Arguments& arguments, Answer* answer) {
  uint32_t id = id_of(arguments);
  int32_t pid = pid_of(arguments);
  if (arguments.error().empty())
    answer->check(control.end_user_recovery(id, pid), "END_USER_RECOVERY");
}

void quiesce(Control& control, Arguments& arguments, Answer* answer) {
  uint32_t id = id_of(arguments);
  uint64_t timeout_ms = arguments.required_number("timeout_ms", UINT32_MAX);
  if (arguments.error().empty()) answer->check(control.quiesce_dev(id, timeout_ms), "QUIESCE_DEV");
}

int write_attribute(uint32_t id, const char* name, const std::string& value) {
  const std::string path = "/sys/block/ublkb" + std::to_string(id) + "/queue/" + name;
  const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.get() < 0) return -errno;
  return ::write(file.get(), value.data(), value.size()) < 0 ? -errno : 0;
}

// A new scheduler waits until no request is in flight, for as long as the backend takes.
void tune(Control&, Arguments& arguments, Answer* answer) {
  const uint32_t id = id_of(arguments);
  const uint64_t io_timeout_ms = arguments.number("io_timeout_ms", UINT32_MAX, 0);
  if (!arguments.error().empty()) return;
  if (io_timeout_ms > 0)
    answer->check(write_attribute(id, "io_timeout", std::to_string(io_timeout_ms)), "io_timeout");
  answer->check(write_attribute(id, "scheduler", "none"), "scheduler");
}

constexpr struct {
  std::string_view name;
  Command run;
} kCommands[] = {
    {"features", features},
    {"add", add},
    {"start", start},
    {"tune", tune},
    {"stop", stop},
    {"disconnect", disconnect_disk},
    {"del", del},
    {"del_async", del_async},
    {"info", info_of},
    {"affinity", affinity},
    {"update_size", update_size},
    {"recover_start", recover_start},
    {"recover_end", recover_end},
    {"quiesce", quiesce},
};

void open_and_run(Command command, Arguments& arguments, Answer* answer) {
  Control control;
  Control::OpenStep failed;
  int opened = control.open(&failed);
  if (opened < 0) {
    bool device = failed == Control::OpenStep::kDevice;
    answer->check(opened, device ? "open" : "ring", device ? "/dev/ublk-control" : "io_uring");
    return;
  }
  command(control, arguments, answer);
  if (std::string error = arguments.error(); !error.empty())
    answer->check(-EINVAL, "arguments", error);
}

}  // namespace

int run_control_command(int count, char** words) {
  std::string_view name = count > 0 ? words[0] : "";
  Arguments arguments(count - 1, words + 1);
  Answer answer;
  Command command = nullptr;
  for (const auto& each : kCommands)
    if (each.name == name) command = each.run;
  if (command == nullptr)
    answer.check(-EINVAL, "arguments", "there is no such command");
  else
    open_and_run(command, arguments, &answer);

  JsonObject line;
  if (answer.result == 0) {
    line = std::move(answer.fields);
    line.add_flag("ok", true);
  } else {
    const char* error = errno_name(-answer.result);
    std::string text = answer.step + (answer.text.empty() ? "" : ": " + answer.text) + ": " + error;
    line.add_flag("ok", false).add("errno", error).add("step", answer.step).add("text", text);
  }
  std::printf("%s\n", line.text().c_str());
  return std::fflush(stdout) == 0 && answer.result == 0 ? 0 : 1;
}

}  // namespace unbd
