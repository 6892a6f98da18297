// Owns: the implementation of launch and leave (see launch.h). Runs in the process that becomes
// the server process, or that becomes the controller which one starts.
// Must not: touch a mount before it is certain that no other namespace sees it.
#include "helper/launch.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/errno_name.h"
#include "base/fd.h"
#include "helper/mounts.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace unbd {
namespace {

constexpr int kExitFailure = 1;
constexpr int kExitCannotExecute = 127;
constexpr int kMaxDetachRounds = 64;
// In the environment of a server process; src/gateway/environment.ts passes it on.
constexpr char kOutside[] = "UBLK_NBD_SERVER_OUTSIDE";

void say(const char* what, const std::string& about, int result) {
  std::fprintf(stderr, "ublk-nbd launcher: %s%s%s: %s\n", what, about.empty() ? "" : " ",
               about.c_str(), errno_name(-result));
}

// The mount namespace and the root folder of a process, by device and inode; empty with errno.
std::string place_of(const std::string& process) {
  std::string place;
  for (const char* name : {"/ns/mnt", "/root/"}) {
    struct stat status;
    if (::stat((process + name).c_str(), &status) != 0) return {};
    place += std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino) + " ";
  }
  return place;
}

// No mount event leaves the namespace from here on. Returns 0 or -errno.
int make_mounts_private() {
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0) return 0;
  if (errno != EINVAL) return -errno;
  // Our root is no mount point (chroot): each mount that we can see, by itself.
  std::vector<Mount> mounts;
  if (int result = read_mounts(&mounts); result < 0) return result;
  for (const Mount& mount : mounts)
    if (::mount(nullptr, mount.mount_point.c_str(), nullptr, MS_PRIVATE, nullptr) != 0)
      return -errno;
  return 0;
}

// Adds the file systems that depend on ublk disks, by their device numbers. The root stays: what
// the whole process runs from cannot be taken from it.
int find_file_systems_on_ublk(std::set<dev_t>* file_systems) {
  std::vector<Mount> mounts;
  std::vector<BlockDevice> devices;
  if (int result = read_mounts(&mounts); result < 0) return result;
  if (int result = read_block_devices(&devices); result < 0) return result;
  for (const Mount& mount : mounts_on_ublk(mounts, devices))
    file_systems->insert(mount.device);
  for (const Mount& mount : mounts)
    if (mount.mount_point == "/") file_systems->erase(mount.device);
  return 0;
}

// Returns 0 or -errno; *about names the mount that stays.
int detach_mounts(const std::set<dev_t>& file_systems, std::string* about) {
  size_t before = SIZE_MAX;
  for (int round = 0; round < kMaxDetachRounds; ++round) {
    std::vector<Mount> found;
    if (int result = read_mounts(&found); result < 0) return result;
    std::erase_if(found, [&](const Mount& mount) { return !file_systems.contains(mount.device); });
    if (found.empty()) return 0;
    *about = found.back().mount_point;
    int last_error = 0;
    // Children stand after their parents. What lies over a mount goes first, so rounds are needed.
    for (auto mount = found.rbegin(); mount != found.rend(); ++mount)
      if (::umount2(mount->mount_point.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
        last_error = errno;
    if (last_error != 0 && found.size() >= before) return -last_error;
    before = found.size();
  }
  return -ELOOP;
}

// Leaves word for `leave`. Not the namespace itself: one that a server process keeps alive would
// have its mounts undone by the end of that process, among them those on its own disk.
void remember_outside() {
  std::string outside = place_of("/proc/self");
  if (outside.empty())
    say("cannot tell its mount namespace", "", -errno);
  else
    ::setenv(kOutside, outside.c_str(), 1);
}

int isolate_mounts() {
  // Before, since the path of a loop device's file is one of the old namespace; and after, for what
  // was mounted in between.
  std::set<dev_t> file_systems;
  int result = find_file_systems_on_ublk(&file_systems);
  if (::unshare(CLONE_NEWNS) != 0) {
    say("cannot make a mount namespace (CAP_SYS_ADMIN)", "", -errno);
    return kExitFailure;
  }
  if (result == 0) result = find_file_systems_on_ublk(&file_systems);
  if (result < 0) {
    say("cannot read /proc/self/mountinfo and /sys/class/block", "", result);
    return kExitFailure;
  }
  if (result = make_mounts_private(); result < 0) {
    say("cannot make the mounts private", "", result);
    return kExitFailure;
  }
  std::string about;
  if (result = detach_mounts(file_systems, &about); result < 0) {
    say("cannot detach a mount that depends on a ublk disk:", about, result);
    return kExitFailure;
  }
  return 0;
}

// Without these the device is served less safely when memory is short, so failing is only said.
void prepare_for_short_memory() {
  if (::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0)
    say("goes on without PR_SET_IO_FLUSHER (CAP_SYS_RESOURCE)", "", -errno);
  Fd score(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  if (::write(score.get(), "-1000", 5) != 5)
    say("goes on without protection from the OOM killer (CAP_SYS_RESOURCE)", "", -errno);
  rlimit locked{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
  ::setrlimit(RLIMIT_MEMLOCK, &locked);  // CAP_IPC_LOCK does as well
}

// Enters the mount namespace and the root of any process that has those named. False where there
// is none, or where it cannot be entered.
bool enter(const std::string& outside) {
  std::unique_ptr<DIR, int (*)(DIR*)> processes(::opendir("/proc"), &::closedir);
  while (const dirent* entry = processes ? ::readdir(processes.get()) : nullptr) {
    std::string process = std::string("/proc/") + entry->d_name;
    if (std::isdigit(entry->d_name[0]) == 0 || place_of(process) != outside) continue;
    Fd mounts(::open((process + "/ns/mnt").c_str(), O_RDONLY | O_CLOEXEC));
    Fd root(::open((process + "/root").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!mounts.valid() || !root.valid()) continue;
    // Entering goes to the root of the namespace, which need not be that of the process (chroot).
    return ::setns(mounts.get(), CLONE_NEWNS) == 0 && ::fchdir(root.get()) == 0 &&
           ::chroot(".") == 0;
  }
  errno = ESRCH;
  return false;
}

}  // namespace

int leave(char** argv) {
  const char* outside = std::getenv(kOutside);
  if (outside == nullptr || !enter(outside)) {
    say("cannot go back to the mounts outside", "", outside == nullptr ? -ENOENT : -errno);
    return kExitFailure;
  }
  ::unsetenv(kOutside);
  ::prctl(PR_SET_IO_FLUSHER, 0, 0, 0, 0);
  Fd score(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  if (::write(score.get(), "0", 1) != 1) say("stays protected from the OOM killer", "", -errno);
  ::execvp(argv[0], argv);
  say("cannot run", argv[0], -errno);
  return kExitCannotExecute;
}

int launch(char** argv) {
  // A working folder on a ublk disk would hold its mount, detached or not.
  if (::chdir("/") != 0) {
    say("cannot change to", "/", -errno);
    return kExitFailure;
  }
  remember_outside();
  if (int status = isolate_mounts(); status != 0) return status;
  prepare_for_short_memory();
  rlimit no_core{.rlim_cur = 0, .rlim_max = 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  ::execvp(argv[0], argv);
  say("cannot run", argv[0], -errno);
  return kExitCannotExecute;
}

}  // namespace unbd
