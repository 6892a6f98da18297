// Owns: PlayedSource, a source that the test plays itself, step by step.
// Runs on: the test's thread, which is the queue's too.
// Must not: bring what the test did not tell it to.
#pragma once

#include <vector>

#include "test/store_fixture.h"

namespace unbd::test {

class PlayedSource {
 public:
  explicit PlayedSource(StoreHarness& harness) : harness_(harness) {}

  // All that has been asked for and was not taken yet.
  std::vector<Fill> take() {
    std::vector<Fill> taken;
    Fill fill;
    while (harness_.parts().bridge->take(&fill))
      taken.push_back(fill);
    return taken;
  }
  void report(const Fill& fill, uint64_t landed_bytes, int error = 0) {
    const uint64_t whole_words = landed_bytes & ~uint64_t{7};
    write_object(harness_.parts().arena->data() + fill.arena_offset_bytes, fill.offset_bytes,
                 whole_words);
    harness_.parts().bridge->report(
        {.id = fill.id, .landed_bytes = static_cast<uint32_t>(landed_bytes), .error = error});
  }
  void land(const Fill& fill, uint64_t landed_bytes, int error = 0) {
    report(fill, landed_bytes, error);
    harness_.turn();
  }
  void land(const Fill& fill) { land(fill, fill.length_bytes); }
  // All that is asked for, until nobody waits any more.
  void serve() {
    while (harness_.in_flight() > 0) {
      serve_once();
      if (harness_.in_flight() > 0) harness_.turn();
    }
  }
  void serve_once() {
    for (Fill fill; harness_.parts().bridge->take(&fill);) {
      if (fill.kind == Fill::Kind::kPromote) continue;
      asked_bytes_ += fill.length_bytes;
      report(fill, fill.length_bytes);
    }
  }
  // Of serve() and serve_once().
  uint64_t asked_bytes() const { return asked_bytes_; }

 private:
  StoreHarness& harness_;
  uint64_t asked_bytes_ = 0;
};

}  // namespace unbd::test
