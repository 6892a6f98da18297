// Owns: ChunkTable, which chunks of the object stand in which slots of the arena, what of each is
// there, and which one has to go.
// Runs on: the queue's thread.
// Must not: allocate after construction; nor give away a slot that a fill still writes to, that is
// still being saved, or for which a tag waits.
#pragma once

#include <cstdint>
#include <vector>

#include "store/lru_list.h"
#include "store/tag_list.h"

namespace unbd::store {

class ChunkTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  // One bit a unit. A unit is missing, pending (asked for), or present.
  struct Slot {
    uint64_t chunk = 0;
    uint64_t present = 0;
    uint64_t pending = 0;
    uint64_t ahead = 0;  // of pending: asked for as read-ahead, which nobody waits for yet
    TagList waiting;
    uint32_t older = 0;
    uint32_t newer = 0;
    uint32_t saves = 0;   // writes of its units to the cache on disk that are under way
    bool held = false;    // by who goes through its waiting tags
    bool cold = false;    // nobody has asked for it: it goes before everything that was used
    bool listed = false;  // among those that may be evicted
  };

  explicit ChunkTable(uint32_t slots);

  uint32_t find(uint64_t chunk) const;
  // Takes a free slot, or the least recently used one that may be evicted, for a chunk that has
  // none. kNone: every slot is pinned. It may be evicted again until something is asked for.
  uint32_t insert(uint64_t chunk);
  // For a chunk that is brought without anybody asking for it, as long as that is so.
  uint32_t insert_cold(uint64_t chunk);
  void touch(uint32_t slot);  // it was used
  const Slot& at(uint32_t slot) const { return slots_[slot]; }
  uint32_t pinned() const { return pinned_; }  // how many slots nothing may evict now
  uint32_t size() const { return static_cast<uint32_t>(slots_.size()); }

  void ask(uint32_t slot, uint64_t units, bool urgent);
  void promote(uint32_t slot, uint64_t units) {
    slots_[slot].ahead &= ~units;
    slots_[slot].cold = false;
  }
  void land(uint32_t slot, uint64_t units);
  void give_up(uint32_t slot, uint64_t units);

  void begin_save(uint32_t slot);
  void end_save(uint32_t slot);

  void push_waiting(uint32_t slot, TagLinks& links, uint32_t tag);
  // Takes the slot's waiting tags out of it; it cannot be evicted until release().
  TagList hold(uint32_t slot);
  void release(uint32_t slot);
  void drop_waiting(uint32_t slot);

 private:
  uint32_t place_of(uint64_t chunk) const;
  void index(uint32_t slot);
  void unindex(uint64_t chunk);
  void settle(uint32_t slot);
  void link_newest(uint32_t slot);
  void link_oldest(uint32_t slot);
  void unlink(uint32_t slot);

  std::vector<Slot> slots_;
  std::vector<uint32_t> places_;  // open addressing, linear probing: slots by their chunk
  uint32_t place_mask_;
  int place_shift_;
  uint32_t used_ = 0;  // slots 0 … used_ - 1 have a chunk
  uint32_t pinned_ = 0;
  LruList<Slot> evictable_;
};

}  // namespace unbd::store
