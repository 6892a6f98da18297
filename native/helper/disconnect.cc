// Owns: the implementation of disconnect (see disconnect.h). Runs in the helper process.
// Must not: stop a disk whose number is not the one that the driver gives for this device.
#include "helper/disconnect.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

#include "base/clock.h"
#include "base/fd.h"

namespace unbd {
namespace {

// udev probes a disk after its last writer has closed it: such an opener is gone in a moment.
constexpr uint64_t kBusyPatienceMs = 1500;
constexpr long kBusyPauseNs = 50'000'000;

// Opens the disk and makes sure that it is this device's. Returns 0 or -errno.
int open_disk(const std::string& path, dev_t expected, int flags, Fd* disk) {
  *disk = Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags));
  if (!disk->valid()) return -errno;
  struct stat status{};
  if (::fstat(disk->get(), &status) != 0) return -errno;
  return S_ISBLK(status.st_mode) && status.st_rdev == expected ? 0 : -ENXIO;
}

// fsync in a child: on a disk whose backend is gone it never returns.
void flush_for_a_while(const DisconnectRequest& request, dev_t expected) {
  pid_t child = ::fork();
  if (child < 0) return;
  if (child == 0) {
    // Our caller waits for the end of our output; a child that stays behind must not hold it.
    int none = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
      ::dup2(none, fd);
    Fd disk;
    if (open_disk(request.path, expected, 0, &disk) == 0) ::fsync(disk.get());
    ::_exit(0);
  }
  Fd watch(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  pollfd ended{.fd = watch.get(), .events = POLLIN, .revents = 0};
  if (::poll(&ended, 1, request.flush_timeout_ms) != 1) ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, WNOHANG);
}

int try_stop_with_patience(Control& control, uint32_t dev_id) {
  uint64_t give_up_ms = monotonic_ms() + kBusyPatienceMs;
  for (;;) {
    int result = control.try_stop_dev(dev_id);
    if (result != -EBUSY || monotonic_ms() >= give_up_ms) return result;
    timespec pause{.tv_sec = 0, .tv_nsec = kBusyPauseNs};
    ::nanosleep(&pause, nullptr);
  }
}

void stop_unused(Control& control, const DisconnectRequest& request, uint64_t flags, dev_t expected,
                 Answer* answer) {
  Fd disk;
  if (!answer->check(open_disk(request.path, expected, O_EXCL, &disk), "open_disk", request.path))
    return;
  // Apart from the FLUSH that fsync ends with: what cannot be written is lost, what was written and
  // cannot be flushed need not be.
  constexpr unsigned kAll =
      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  int written = ::sync_file_range(disk.get(), 0, 0, kAll) == 0 ? 0 : -errno;
  if (!answer->check(written, "write_back", request.path)) return;
  if (!answer->check(::fsync(disk.get()) == 0 ? 0 : -errno, "fsync", request.path)) return;
  if ((flags & uapi::kFeatureSafeStopDev) == 0) {
    answer->check(control.stop_dev(request.dev_id), "STOP_DEV");
    return;
  }
  disk.reset();  // or we would be the opener that it refuses for
  answer->check(try_stop_with_patience(control, request.dev_id), "TRY_STOP_DEV");
}

}  // namespace

void disconnect(Control& control, const DisconnectRequest& request, Answer* answer) {
  // A flush may last long, and a device whose disconnect nobody waits for any more goes on.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  uapi::CtrlDevInfo info;
  uapi::Params params;
  if (!answer->check(control.get_dev_info(request.dev_id, &info), "GET_DEV_INFO")) return;
  if (!answer->check(control.get_params(request.dev_id, &params), "GET_PARAMS")) return;
  dev_t expected = ::makedev(params.devt.disk_major, params.devt.disk_minor);
  // A device that was never started, or whose server process took it down, has no disk.
  if (info.state == uapi::kStateDead || expected == 0) {
    answer->check(control.stop_dev(request.dev_id), "STOP_DEV");
    return;
  }
  if (!request.force) {
    stop_unused(control, request, info.flags, expected, answer);
    return;
  }
  flush_for_a_while(request, expected);
  answer->check(control.stop_dev(request.dev_id), "STOP_DEV");
}

}  // namespace unbd
