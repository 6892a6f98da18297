// Owns: the implementation of Arena (see arena.h).
// Runs on: as said there.
// Must not: touch the memory.
#include "base/arena.h"

#include <sys/mman.h>

#include <cerrno>

namespace unbd {

int Arena::create(uint64_t size_bytes, std::shared_ptr<Arena>* arena) {
  void* address = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) return -errno;
  // A forked child would make every page copy-on-write.
  ::madvise(address, size_bytes, MADV_DONTFORK);
  arena->reset(new Arena(static_cast<std::byte*>(address), size_bytes));
  return 0;
}

Arena::~Arena() {
  ::munmap(data_, size_bytes_);
}

}  // namespace unbd
