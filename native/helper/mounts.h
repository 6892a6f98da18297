// Owns: the question which mounts of this mount namespace depend on ublk disks. Pure, but for the
// two that read /proc and /sys; one thread. A mount depends on a ublk disk when its device is one,
// a partition of one, or stacked on one (dm, md, loop), or when it is an overlay of folders that
// do.
// Must not: change anything.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

namespace unbd {

struct Mount {
  dev_t device = 0;         // of the file system; not a disk's for btrfs and overlay
  dev_t source_device = 0;  // of the source, where that is a block device's node
  std::string mount_point;
  std::string type;
  std::string super_options;
  std::string source;
};

struct BlockDevice {
  std::string name;
  dev_t device = 0;
  std::vector<std::string> parents;  // names: its slaves, and for a partition its disk
  std::string backing_file;          // of a loop device
};

// The lines of /proc/self/mountinfo (proc_pid_mountinfo(5)); source_device is left at 0.
std::vector<Mount> parse_mountinfo(std::string_view text);

// Those that depend on a ublk disk, in the table's order.
std::vector<Mount> mounts_on_ublk(const std::vector<Mount>& mounts,
                                  const std::vector<BlockDevice>& devices);

// Each returns 0 or -errno.
int read_mounts(std::vector<Mount>* mounts);
int read_block_devices(std::vector<BlockDevice>* devices);

}  // namespace unbd
