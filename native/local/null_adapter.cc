// Owns: the implementation of NullAdapter (see null_adapter.h).
// Runs on its queue's thread.
// Must not: touch a buffer more than the promise of zeroes needs.
#include "local/null_adapter.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace unbd {

int NullAdapter::start(Ring&, CompletionSink& sink, EventSink&) {
  sink_ = &sink;
  return 0;
}

void NullAdapter::submit(std::span<const Request> batch) {
  for (const Request& request : batch) {
    int32_t result = 0;
    if (request.op == Op::kRead || request.op == Op::kWrite) {
      UN_ASSERT(request.tag < kMaxTags);
      uint32_t length_bytes = static_cast<uint32_t>(request.length_bytes);
      uint32_t& dirty_bytes = dirty_bytes_[request.tag];
      if (request.op == Op::kWrite) {
        dirty_bytes = std::max(dirty_bytes, length_bytes);
      } else if (dirty_bytes > 0) {
        std::memset(request.buffer, 0, std::min(dirty_bytes, length_bytes));
        if (length_bytes >= dirty_bytes) dirty_bytes = 0;
      }
      result = static_cast<int32_t>(length_bytes);
    }
    sink_->complete(request.tag, request.generation, failure_ == 0 ? result : -failure_);
  }
}

void NullAdapter::on_cqe(uint64_t, int32_t, uint32_t) {
  UN_ASSERT(!"no SQE is this adapter's");
}

}  // namespace unbd
