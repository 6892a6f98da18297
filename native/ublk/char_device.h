// Owns: CharDevice, our end of /dev/ublkcN, and IoDescMap, one queue's request descriptors in it.
// Runs on: the control plane's thread opens; each queue's thread maps for itself; the last queue to
// end closes.
// Must not: keep request state; that is the tag table's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/fd.h"
#include "ublk/uapi.h"

namespace unbd {

// Where pread and pwrite on the char device reach byte 0 of a request (UBLK_F_USER_COPY).
constexpr uint64_t user_copy_offset(unsigned queue, unsigned tag) {
  return uapi::kIoBufOffset + (uint64_t{queue} << (uapi::kIoBufBits + uapi::kTagBits)) +
         (uint64_t{tag} << uapi::kIoBufBits);
}
static_assert(user_copy_offset(1, 2) == 0x80000000 + (1ULL << 41) + (2ULL << 25));

class CharDevice {
 public:
  // Opens path. The node may not be there yet (devtmpfs, udev) or be held for a moment by udev's
  // own probing: ENOENT and EBUSY are retried for about a second. Returns 0 or -errno.
  int open(const std::string& path);
  void close() { fd_.reset(); }
  int fd() const { return fd_.get(); }

 private:
  Fd fd_;
};

// The driver's array of IoDesc for one queue, read-only, not inherited by children.
class IoDescMap {
 public:
  IoDescMap() = default;
  ~IoDescMap() { unmap(); }
  IoDescMap(const IoDescMap&) = delete;
  IoDescMap& operator=(const IoDescMap&) = delete;

  int map(const CharDevice& device, unsigned queue, unsigned depth);  // 0 or -errno
  void unmap();
  const uapi::IoDesc& operator[](unsigned tag) const { return descriptors_[tag]; }

 private:
  const uapi::IoDesc* descriptors_ = nullptr;
  size_t length_bytes_ = 0;
};

}  // namespace unbd
