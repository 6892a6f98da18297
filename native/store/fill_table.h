// Owns: FillTable, what the source, or the cache on disk, was asked for and has not brought to its
// end, by fill id.
// Runs on: the queue's thread.
// Must not: allocate; an id is free again only after its fill's end.
#pragma once

#include <array>
#include <cstdint>

#include "base/assert.h"
#include "bridge/fill_bridge.h"

namespace unbd::store {

class FillTable {
 public:
  struct Entry {
    uint64_t units = 0;  // of the slot's chunk: one run of bits
    uint32_t slot = 0;
    uint32_t length_bytes = 0;
    uint32_t landed_bytes = 0;
    uint32_t first_unit = 0;
    bool urgent = false;
    bool background = false;
    bool from_disk = false;  // from the cache; the source does not know it
    bool live = false;
  };

  FillTable() {
    for (uint32_t id = 0; id < kMaxFills; ++id)
      free_[id] = kMaxFills - 1 - id;
  }

  bool has_free(bool urgent) const {
    // Read-ahead leaves half of the ids to those who wait.
    return count_ < (urgent ? kMaxFills : kMaxFills / 2);
  }
  uint32_t take(const Entry& entry) {
    UN_ASSERT(count_ < kMaxFills);
    const uint32_t id = free_[kMaxFills - ++count_];
    entries_[id] = entry;
    entries_[id].live = true;
    return id;
  }
  void give_back(uint32_t id) {
    UN_ASSERT(entries_[id].live);
    entries_[id].live = false;
    free_[kMaxFills - count_--] = id;
  }
  Entry& of(uint32_t id) { return entries_[id]; }

 private:
  std::array<Entry, kMaxFills> entries_{};
  std::array<uint32_t, kMaxFills> free_{};  // a stack: the first kMaxFills - count_ are free
  uint32_t count_ = 0;
};

}  // namespace unbd::store
