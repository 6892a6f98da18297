// Owns: the values that queues and their callers exchange, and the listener that queues report to.
// Pure data, any thread; the listener is called from the queues' threads.
// Must not: carry behaviour.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace unbd {

// How request data moves between the kernel's pages and the tag buffers; fixed when the device is
// added.
enum class DataPath : uint8_t {
  kCopy,      // the driver copies at FETCH and COMMIT
  kUserCopy,  // we copy, by pread and pwrite on the char device (UBLK_F_USER_COPY)
};

struct QueuesConfig {
  int dev_id = -1;
  std::string char_device_path;  // empty: /dev/ublkcN
  unsigned queue_count = 1;      // these three are what ADD_DEV handed back
  unsigned depth = 128;
  unsigned max_io_bytes = 512 * 1024;
  uint64_t size_bytes = 0;
  bool read_only = false;
  DataPath data_path = DataPath::kCopy;  // must agree with the device's flags
  // For drivers without UBLK_F_NO_AUTO_PART_SCAN: they scan only if the queues' threads have
  // CAP_SYS_ADMIN when they fetch.
  bool suppress_partition_scan = false;
};

// Thread-safe; must not block, and must not call back into DeviceQueues.
class QueuesListener {
 public:
  // kind: those of EventSink (see adapter.h); "held": a queue has obeyed hold() (text: of how many
  // calls, in all); "quiesced": a queue has obeyed quiesce() (text: of which round); and "stopped"
  // once, last: every queue has ended, the adapters are destroyed, the char device is closed. It is
  // not posted when start() failed.
  virtual void on_event(unsigned queue, std::string_view kind, std::string_view text) = 0;

 protected:
  ~QueuesListener() = default;
};

// Totals since the start. Requests are counted when the kernel hands them over, errors when they
// complete.
struct QueuesStats {
  uint64_t reads = 0;
  uint64_t read_bytes = 0;
  uint64_t writes = 0;
  uint64_t write_bytes = 0;
  uint64_t flushes = 0;
  uint64_t discards = 0;
  uint64_t write_zeroes = 0;
  uint64_t errors = 0;
  uint64_t stale_completions = 0;
  uint64_t in_flight = 0;
};

}  // namespace unbd
