// Owns: WaitingList, the requests of a queue that wait for a connection or for room in the log, in
// the order of their submission.
// Runs on: the queue's thread.
// Must not: allocate after construction.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "base/assert.h"
#include "nbd/request_table.h"

namespace unbd::nbd {

class WaitingList {
 public:
  explicit WaitingList(size_t capacity)
      : capacity_(capacity), entries_(std::make_unique_for_overwrite<Pending[]>(capacity)) {}

  bool is_empty() const { return begin_ == end_; }
  size_t size() const { return end_ - begin_; }

  void push(const Pending& pending) {
    UN_ASSERT(size() < capacity_);
    if (end_ == capacity_) {
      std::memmove(entries_.get(), &entries_[begin_], size() * sizeof(Pending));
      end_ -= begin_;
      begin_ = 0;
    }
    entries_[end_++] = pending;
  }

  Pending& front() {
    UN_ASSERT(!is_empty());
    return entries_[begin_];
  }
  Pending pop() {
    UN_ASSERT(!is_empty());
    return entries_[begin_++];
  }

  void sort() {
    std::sort(&entries_[begin_], &entries_[begin_] + size(),
              [](const Pending& left, const Pending& right) { return left.order < right.order; });
  }

 private:
  const size_t capacity_;
  size_t begin_ = 0;
  size_t end_ = 0;
  std::unique_ptr<Pending[]> entries_;
};

}  // namespace unbd::nbd
