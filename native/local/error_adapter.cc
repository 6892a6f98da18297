// Owns: the implementation of ErrorAdapter (see error_adapter.h).
// Runs on its queue's thread.
// Must not: touch a buffer.
#include "local/error_adapter.h"

#include <cerrno>

#include "base/assert.h"

namespace unbd {

int ErrorAdapter::start(Ring&, CompletionSink& sink, EventSink&) {
  sink_ = &sink;
  return 0;
}

void ErrorAdapter::submit(std::span<const Request> batch) {
  for (const Request& request : batch)
    sink_->complete(request.tag, request.generation, -EIO);
}

void ErrorAdapter::on_cqe(uint64_t, int32_t, uint32_t) {
  UN_ASSERT(!"no SQE is this adapter's");
}

}  // namespace unbd
