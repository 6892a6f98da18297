// Owns: Control, the driver's control commands, each issued and awaited.
// Runs on: the thread that opened it (its ring is SINGLE_ISSUER). The helper process uses all of
// it; a process that owns I/O may use only GET_FEATURES, GET_DEV_INFO, GET_PARAMS and
// GET_QUEUE_AFFINITY, which do not wait.
// Must not: retry, or put a deadline on a command; the caller is disposable.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.h"
#include "ring/ring.h"
#include "ublk/uapi.h"

namespace unbd {

class Control {
 public:
  // Which part of open() failed.
  enum class OpenStep : uint8_t { kDevice, kRing };

  // Opens /dev/ublk-control and a ring. Returns 0 or -errno with *failed set: kDevice with ENOENT
  // (no driver) or EACCES/EPERM; kRing with EPERM (io_uring is disabled here).
  int open(OpenStep* failed);

  // Each returns 0 or -errno (ublk.rst). They wait until the driver is done; START_DEV and
  // END_USER_RECOVERY until every tag is fetched, STOP_DEV until every owned request is completed,
  // DEL_DEV until nobody holds the device.
  int get_features(uint64_t* features);
  int add_dev(
      uapi::CtrlDevInfo* info);  // in and out: what the driver granted; dev_id may be kAnyDevId
  int set_params(uint32_t dev_id, uapi::Params* params);
  int get_params(uint32_t dev_id, uapi::Params* params);
  int start_dev(uint32_t dev_id, int32_t server_pid);
  int stop_dev(uint32_t dev_id);
  int try_stop_dev(uint32_t dev_id);  // -EBUSY when the disk has openers; kFeatureSafeStopDev
  int del_dev(uint32_t dev_id);
  int del_dev_async(uint32_t dev_id);
  int get_dev_info(uint32_t dev_id, uapi::CtrlDevInfo* info);
  int get_dev_info2(uint32_t dev_id, const std::string& char_device_path, uapi::CtrlDevInfo* info);
  int get_queue_affinity(uint32_t dev_id, uint16_t queue, std::vector<unsigned>* cpus);
  int start_user_recovery(uint32_t dev_id);
  int end_user_recovery(uint32_t dev_id, int32_t server_pid);
  int update_size(uint32_t dev_id, uint64_t sectors);
  int quiesce_dev(uint32_t dev_id, uint64_t timeout_ms);

 private:
  int issue(uint32_t opcode, const uapi::CtrlCmd& command);

  Fd fd_;
  Ring ring_;
};

}  // namespace unbd
