// Owns: TagLinks and TagList, lists of waiting tags. A tag waits in one place at a time, so that
// one link for each tag serves all lists.
// Runs on: the queue's thread.
// Must not: allocate after construction.
#pragma once

#include <cstdint>
#include <vector>

#include "base/assert.h"

namespace unbd::store {

inline constexpr uint32_t kNoTag = UINT32_MAX;

struct TagList {
  uint32_t first = kNoTag;
  uint32_t last = kNoTag;
  bool is_empty() const { return first == kNoTag; }
};

class TagLinks {
 public:
  explicit TagLinks(unsigned depth) : next_(depth, kNoTag) {}

  void push_back(TagList& list, uint32_t tag) {
    next_[tag] = kNoTag;
    if (list.is_empty())
      list.first = tag;
    else
      next_[list.last] = tag;
    list.last = tag;
  }
  void push_front(TagList& list, uint32_t tag) {
    next_[tag] = list.first;
    if (list.is_empty()) list.last = tag;
    list.first = tag;
  }
  uint32_t pop_front(TagList& list) {
    UN_ASSERT(!list.is_empty());
    const uint32_t tag = list.first;
    list.first = next_[tag];
    if (list.is_empty()) list.last = kNoTag;
    return tag;
  }

 private:
  std::vector<uint32_t> next_;
};

}  // namespace unbd::store
