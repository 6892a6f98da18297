// Owns: the implementation of CharDevice and IoDescMap (see char_device.h).
// Runs on: as said there.
// Must not: keep request state.
#include "ublk/char_device.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

#include "base/assert.h"

namespace unbd {
namespace {

constexpr int kOpenAttempts = 50;
constexpr long kOpenPauseNs = 20'000'000;

size_t round_up_to_page(size_t bytes) {
  size_t page_bytes = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return (bytes + page_bytes - 1) / page_bytes * page_bytes;
}

}  // namespace

int CharDevice::open(const std::string& path) {
  UN_ASSERT(!fd_.valid());
  for (int attempt = 1;; ++attempt) {
    fd_ = Fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (fd_.valid()) return 0;
    int error = errno;
    bool may_pass = error == ENOENT || error == EBUSY || error == EINTR;
    if (!may_pass || attempt == kOpenAttempts) return -error;
    timespec pause{.tv_sec = 0, .tv_nsec = kOpenPauseNs};
    ::nanosleep(&pause, nullptr);
  }
}

int IoDescMap::map(const CharDevice& device, unsigned queue, unsigned depth) {
  UN_ASSERT(descriptors_ == nullptr && depth > 0 && depth <= uapi::kMaxQueueDepth);
  // The length is exact, and queues lie as far apart as if each had the greatest depth.
  length_bytes_ = round_up_to_page(depth * sizeof(uapi::IoDesc));
  size_t stride_bytes = round_up_to_page(uapi::kMaxQueueDepth * sizeof(uapi::IoDesc));
  void* address = ::mmap(nullptr, length_bytes_, PROT_READ, MAP_SHARED, device.fd(),
                         static_cast<off_t>(queue * stride_bytes));
  if (address == MAP_FAILED) return -errno;
  descriptors_ = static_cast<const uapi::IoDesc*>(address);
  // A child that keeps the mapping would keep the device from being deleted.
  if (::madvise(address, length_bytes_, MADV_DONTFORK) != 0) {
    int error = errno;
    unmap();
    return -error;
  }
  return 0;
}

void IoDescMap::unmap() {
  if (descriptors_ == nullptr) return;
  ::munmap(const_cast<uapi::IoDesc*>(descriptors_), length_bytes_);
  descriptors_ = nullptr;
}

}  // namespace unbd
