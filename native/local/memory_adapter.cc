// Owns: the implementation of MemoryRegion and MemoryAdapter (see memory_adapter.h).
// Runs on: as said there.
// Must not: promise anything beyond the life of the process.
#include "local/memory_adapter.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "base/assert.h"

namespace unbd {

int MemoryRegion::create(uint64_t size_bytes, std::shared_ptr<MemoryRegion>* region) {
  std::shared_ptr<Arena> arena;
  const int result = Arena::create(size_bytes, &arena);
  if (result == 0) region->reset(new MemoryRegion(std::move(arena)));
  return result;
}

void MemoryRegion::clear(uint64_t offset_bytes, uint64_t length_bytes, bool release) {
  static const uint64_t page_bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  UN_ASSERT(offset_bytes <= size_bytes() && length_bytes <= size_bytes() - offset_bytes);
  uint64_t end = offset_bytes + length_bytes;
  uint64_t first_page = (offset_bytes + page_bytes - 1) / page_bytes * page_bytes;
  uint64_t last_page = end / page_bytes * page_bytes;
  bool released = release && first_page < last_page &&
                  ::madvise(data() + first_page, last_page - first_page, MADV_DONTNEED) == 0;
  if (!released) {
    std::memset(data() + offset_bytes, 0, length_bytes);
    return;
  }
  std::memset(data() + offset_bytes, 0, first_page - offset_bytes);
  std::memset(data() + last_page, 0, end - last_page);
}

MemoryAdapter::MemoryAdapter(std::shared_ptr<MemoryRegion> region) : region_(std::move(region)) {}

int MemoryAdapter::start(Ring&, CompletionSink& sink, EventSink&) {
  sink_ = &sink;
  return 0;
}

void MemoryAdapter::submit(std::span<const Request> batch) {
  for (const Request& request : batch)
    sink_->complete(request.tag, request.generation, failure_ == 0 ? serve(request) : -failure_);
}

int32_t MemoryAdapter::serve(const Request& request) {
  UN_ASSERT(request.offset_bytes <= region_->size_bytes() &&
            request.length_bytes <= region_->size_bytes() - request.offset_bytes);
  std::byte* place = region_->data() + request.offset_bytes;
  switch (request.op) {
    case Op::kRead:
      std::memcpy(request.buffer, place, request.length_bytes);
      return static_cast<int32_t>(request.length_bytes);
    case Op::kWrite:
      std::memcpy(place, request.buffer, request.length_bytes);
      return static_cast<int32_t>(request.length_bytes);
    case Op::kFlush:
      return 0;
    case Op::kDiscard:
      region_->clear(request.offset_bytes, request.length_bytes, true);
      return 0;
    case Op::kWriteZeroes:
      region_->clear(request.offset_bytes, request.length_bytes, !request.no_unmap);
      return 0;
  }
  UN_ASSERT(!"an operation that does not exist");
}

void MemoryAdapter::on_cqe(uint64_t, int32_t, uint32_t) {
  UN_ASSERT(!"no SQE is this adapter's");
}

}  // namespace unbd
