// Owns: the implementation of TagBuffers (see tag_buffers.h).
// Runs on the queue's thread.
// Must not: touch the contents.
#include "queue/tag_buffers.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "base/assert.h"

namespace unbd {

int TagBuffers::map(unsigned depth, unsigned max_io_bytes, bool* locked) {
  UN_ASSERT(base_ == nullptr && depth > 0 && max_io_bytes > 0);
  size_t page_bytes = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  UN_ASSERT(max_io_bytes % page_bytes == 0);
  // One page more than a request: buffers a power of two apart would share the same few cache sets.
  stride_bytes_ = max_io_bytes + page_bytes;
  length_bytes_ = depth * stride_bytes_;
  void* address = ::mmap(nullptr, length_bytes_, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) return -errno;
  base_ = static_cast<std::byte*>(address);
  // A child must neither copy the pages nor make them copy-on-write under the driver's hands.
  if (::madvise(address, length_bytes_, MADV_DONTFORK) != 0) {
    int error = errno;
    unmap();
    return -error;
  }
  // A huge page would take 2 MiB, cleared and locked, for a request of 4 KiB; where there are none,
  // there is nothing to forbid.
  (void)::madvise(address, length_bytes_, MADV_NOHUGEPAGE);
  *locked = ::mlock2(address, length_bytes_, MLOCK_ONFAULT) == 0;
  return 0;
}

void TagBuffers::unmap() {
  if (base_ == nullptr) return;
  ::munmap(base_, length_bytes_);
  base_ = nullptr;
}

}  // namespace unbd
