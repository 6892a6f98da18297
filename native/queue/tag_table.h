// Owns: the state of every tag of a queue, and the only code that changes it:
//
//   WITH_KERNEL  -> FETCHED       fetch: the driver has handed the tag's request over
//   FETCHED      -> SUBMITTED(g)  submit: the adapter gets it, under a new generation g
//   FETCHED      -> COMPLETED     refuse: the queue answers it itself
//   SUBMITTED(g) -> COMPLETED     complete, if it carries g; any other is stale and changes nothing
//   COMPLETED    -> WITH_KERNEL   commit: the result goes back to the driver
//
// Runs on: the queue's thread.
// Must not: know what a request is.
#pragma once

#include <cstdint>
#include <vector>

#include "base/assert.h"

namespace unbd {

class TagTable {
 public:
  explicit TagTable(unsigned depth);

  // The driver has handed the tag's request over.
  void fetch(uint16_t tag) {
    move(tag, State::kWithKernel, State::kFetched);
    ++with_us_;
  }

  // The adapter gets it. Returns the generation that its completion must carry.
  uint16_t submit(uint16_t tag) {
    move(tag, State::kFetched, State::kSubmitted);
    return ++tags_[tag].generation;
  }

  // Answered by the queue itself.
  void refuse(uint16_t tag) { move(tag, State::kFetched, State::kCompleted); }

  // False: stale, and nothing has changed.
  bool complete(uint16_t tag, uint16_t generation) {
    UN_ASSERT(tag < tags_.size());
    const Tag& entry = tags_[tag];
    if (entry.state != State::kSubmitted || entry.generation != generation) [[unlikely]]
      return false;
    move(tag, State::kSubmitted, State::kCompleted);
    return true;
  }

  // The result goes back to the driver.
  void commit(uint16_t tag) {
    move(tag, State::kCompleted, State::kWithKernel);
    --with_us_;
  }

  // Tags in any state but WITH_KERNEL.
  unsigned with_us() const { return with_us_; }
  unsigned depth() const { return static_cast<unsigned>(tags_.size()); }

 private:
  enum class State : uint8_t { kWithKernel, kFetched, kSubmitted, kCompleted };
  struct Tag {
    uint16_t generation = 0;
    State state = State::kWithKernel;
  };

  void move(uint16_t tag, State from, State to) {
    UN_ASSERT(tag < tags_.size());
    UN_ASSERT(tags_[tag].state == from);
    tags_[tag].state = to;
  }

  std::vector<Tag> tags_;
  unsigned with_us_ = 0;
};

}  // namespace unbd
