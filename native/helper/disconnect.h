// Owns: the way of a disk to its end: nobody uses it, everything is written, then STOP. Without
// force the disk is opened exclusively (EBUSY: it is mounted, or a holder such as LVM has it),
// written back (step write_back), flushed (step fsync), and stopped by TRY_STOP_DEV where the
// driver has that (EBUSY: it is open), else by STOP_DEV while we hold it. With force it is synced
// for flush_timeout_ms at most, by a child that may be left behind, then stopped whoever uses it.
// It ends with the process that asked for it.
// Must not: stop a disk whose number is not the one that the driver gives for this device.
#pragma once

#include <cstdint>
#include <string>

#include "helper/answer.h"
#include "ublk/control.h"

namespace unbd {

struct DisconnectRequest {
  uint32_t dev_id = 0;
  std::string path;  // of the disk
  bool force = false;
  int flush_timeout_ms = 0;
};

void disconnect(Control& control, const DisconnectRequest& request, Answer* answer);

}  // namespace unbd
