// Owns: LruList, the order in which numbered things were used. Each has the members `older` and
// `newer` (uint32_t), which are the list's while it is in it.
// Runs on: the thread of whoever has the things.
// Must not: allocate; nor know whether a thing is in the list: who has it does.
#pragma once

#include <cstdint>

namespace unbd::store {

template <typename Thing>
class LruList {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  uint32_t oldest() const { return oldest_; }
  uint32_t newest() const { return newest_; }

  void push_newest(Thing* things, uint32_t number) {
    things[number].older = newest_;
    things[number].newer = kNone;
    if (newest_ == kNone)
      oldest_ = number;
    else
      things[newest_].newer = number;
    newest_ = number;
  }

  void push_oldest(Thing* things, uint32_t number) {
    things[number].older = kNone;
    things[number].newer = oldest_;
    if (oldest_ == kNone)
      newest_ = number;
    else
      things[oldest_].older = number;
    oldest_ = number;
  }

  void remove(Thing* things, uint32_t number) {
    const Thing& removed = things[number];
    if (removed.older == kNone)
      oldest_ = removed.newer;
    else
      things[removed.older].newer = removed.newer;
    if (removed.newer == kNone)
      newest_ = removed.older;
    else
      things[removed.newer].older = removed.older;
  }

 private:
  uint32_t oldest_ = kNone;
  uint32_t newest_ = kNone;
};

}  // namespace unbd::store
