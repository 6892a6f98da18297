// Owns: the implementation of open_file_backend (see file_backend.h).
// Runs on the control plane's thread.
// Must not: change the file.
#include "local/file_backend.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <utility>

namespace unbd {
namespace {

constexpr uint32_t kSectorBytes = 512;
// What request buffers are aligned to at least, and the coarsest alignment that is worth a second
// descriptor.
constexpr uint32_t kPageBytes = 4096;

// Whether an O_DIRECT read of length_bytes at offset 0 is taken.
bool reads_direct(int fd, uint32_t length_bytes) {
  alignas(kPageBytes) std::byte buffer[kPageBytes];
  return ::pread(fd, buffer, length_bytes, 0) >= 0;
}

// The alignment that O_DIRECT needs here; 0: not possible.
uint32_t direct_alignment(int fd) {
  struct statx status{};
  int result = ::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status);
  if (result == 0 && (status.stx_mask & STATX_DIOALIGN) != 0) {
    uint32_t align = std::max(status.stx_dio_offset_align, kSectorBytes);
    bool usable = status.stx_dio_offset_align != 0 && status.stx_dio_mem_align <= kPageBytes &&
                  align <= kPageBytes;
    return usable ? align : 0;
  }
  // Kernels before 6.1 and some file systems do not say.
  for (uint32_t align : {kSectorBytes, kPageBytes})
    if (reads_direct(fd, align)) return align;
  return 0;
}

void open_direct(const std::string& path, int access, FileBackend* backend) {
  Fd fd(::open(path.c_str(), access | O_DIRECT | O_CLOEXEC));
  if (!fd.valid()) return;
  struct stat buffered{};
  struct stat direct{};
  if (::fstat(backend->fd.get(), &buffered) != 0 || ::fstat(fd.get(), &direct) != 0) return;
  // The path may have been replaced in between.
  if (buffered.st_dev != direct.st_dev || buffered.st_ino != direct.st_ino) return;
  uint32_t align = direct_alignment(fd.get());
  if (align == 0) return;
  backend->direct_align_bytes = align;
  backend->direct_fd = std::move(fd);
}

int read_block_device_geometry(FileBackend* backend) {
  uint64_t size_bytes = 0;
  int logical_block_bytes = 0;
  if (::ioctl(backend->fd.get(), BLKGETSIZE64, &size_bytes) != 0) return -errno;
  if (::ioctl(backend->fd.get(), BLKSSZGET, &logical_block_bytes) != 0) return -errno;
  backend->size_bytes = size_bytes;
  backend->logical_block_bytes = static_cast<uint32_t>(logical_block_bytes);
  return 0;
}

}  // namespace

int open_file_backend(const std::string& path, bool read_only, bool direct, FileBackend* backend) {
  int access = read_only ? O_RDONLY : O_RDWR;
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return -errno;
  bool exclusive = S_ISBLK(status.st_mode) && !read_only;
  // O_NONBLOCK: a FIFO in the path's place must not hold us; it means nothing for files and disks.
  int flags = access | O_CLOEXEC | O_NONBLOCK | (exclusive ? O_EXCL : 0);
  backend->fd = Fd(::open(path.c_str(), flags));
  if (!backend->fd.valid()) return -errno;
  if (::fstat(backend->fd.get(), &status) != 0) return -errno;
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) return -ENOTSUP;

  backend->read_only = read_only;
  backend->is_block_device = S_ISBLK(status.st_mode);
  backend->size_bytes = static_cast<uint64_t>(status.st_size);
  if (backend->is_block_device)
    if (int result = read_block_device_geometry(backend); result != 0) return result;
  if (direct) open_direct(path, access, backend);
  return 0;
}

}  // namespace unbd
