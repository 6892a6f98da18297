// Owns: FileBackend, an open file or block device that serves as a device's content. Opened on the
// control plane's thread, then shared read-only by the queues' adapters.
// Must not: do request I/O; that is FileAdapter's.
#pragma once

#include <cstdint>
#include <string>

#include "base/fd.h"

namespace unbd {

struct FileBackend {
  Fd fd;         // through the page cache
  Fd direct_fd;  // O_DIRECT; invalid where it was not asked for or is refused
  uint32_t direct_align_bytes =
      0;  // offset and length alignment that direct_fd needs; 0 without it
  uint64_t size_bytes = 0;
  uint32_t logical_block_bytes = 512;  // of a block device; 512 for a file
  bool read_only = false;
  bool is_block_device = false;
};

// Opens path. direct asks for O_DIRECT and is ignored where the file system or alignment refuses
// it. A block device is opened O_EXCL for writing, so one that is mounted gives -EBUSY. Returns 0
// or -errno (-ENOTSUP: neither a file nor a block device).
int open_file_backend(const std::string& path, bool read_only, bool direct, FileBackend* backend);

}  // namespace unbd
