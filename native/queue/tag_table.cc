// Owns: the making of a TagTable (see tag_table.h).
// Runs on the queue's thread.
// Must not: change a state; that is the header's.
#include "queue/tag_table.h"

#include "ublk/uapi.h"

namespace unbd {

TagTable::TagTable(unsigned depth) : tags_(depth) {
  UN_ASSERT(depth > 0 && depth <= uapi::kMaxQueueDepth);
}

}  // namespace unbd
