// Owns: the implementation of ChunkTable (see chunk_table.h).
// Runs on: the queue's thread.
// Must not: walk over slots: only those that may be evicted are in the list, the oldest first.
#include "store/chunk_table.h"

#include <bit>

#include "base/assert.h"

namespace unbd::store {

ChunkTable::ChunkTable(uint32_t slots) : slots_(slots) {
  // At most half of the places are taken, so that a probe is short.
  places_.assign(std::bit_ceil(slots * 2), kNone);
  place_mask_ = static_cast<uint32_t>(places_.size()) - 1;
  place_shift_ = 64 - std::countr_zero(places_.size());
}

uint32_t ChunkTable::place_of(uint64_t chunk) const {
  return static_cast<uint32_t>(chunk * 0x9e3779b97f4a7c15U >> place_shift_);
}

uint32_t ChunkTable::find(uint64_t chunk) const {
  for (uint32_t place = place_of(chunk);; place = (place + 1) & place_mask_) {
    const uint32_t slot = places_[place];
    if (slot == kNone || slots_[slot].chunk == chunk) return slot;
  }
}

void ChunkTable::index(uint32_t slot) {
  uint32_t place = place_of(slots_[slot].chunk);
  while (places_[place] != kNone)
    place = (place + 1) & place_mask_;
  places_[place] = slot;
}

// Closes the gap that it leaves: a probe ends at the first free place.
void ChunkTable::unindex(uint64_t chunk) {
  uint32_t gap = place_of(chunk);
  while (slots_[places_[gap]].chunk != chunk)
    gap = (gap + 1) & place_mask_;
  for (uint32_t place = (gap + 1) & place_mask_; places_[place] != kNone;
       place = (place + 1) & place_mask_) {
    const uint32_t wanted = place_of(slots_[places_[place]].chunk);
    // It may move to the gap unless that lies before where its own probe begins.
    if (((place - wanted) & place_mask_) < ((place - gap) & place_mask_)) continue;
    places_[gap] = places_[place];
    gap = place;
  }
  places_[gap] = kNone;
}

uint32_t ChunkTable::insert(uint64_t chunk) {
  UN_ASSERT(find(chunk) == kNone);
  uint32_t slot = evictable_.oldest();
  if (used_ < slots_.size()) {
    slot = used_++;
  } else if (slot != kNone) {
    unlink(slot);
    unindex(slots_[slot].chunk);
  } else {
    return kNone;
  }
  slots_[slot] = {.chunk = chunk};
  index(slot);
  link_newest(slot);
  return slot;
}

uint32_t ChunkTable::insert_cold(uint64_t chunk) {
  const uint32_t slot = insert(chunk);
  if (slot != kNone) slots_[slot].cold = true;
  return slot;
}

void ChunkTable::touch(uint32_t slot) {
  if (slot == evictable_.newest() || !slots_[slot].listed) return;
  slots_[slot].cold = false;
  unlink(slot);
  link_newest(slot);
}

void ChunkTable::ask(uint32_t slot, uint64_t units, bool urgent) {
  Slot& asked = slots_[slot];
  UN_ASSERT(((asked.present | asked.pending) & units) == 0);
  asked.pending |= units;
  if (!urgent) asked.ahead |= units;
  settle(slot);
}

void ChunkTable::land(uint32_t slot, uint64_t units) {
  give_up(slot, units);
  slots_[slot].present |= units;
}

void ChunkTable::give_up(uint32_t slot, uint64_t units) {
  Slot& asked = slots_[slot];
  UN_ASSERT((asked.pending & units) == units);
  asked.pending &= ~units;
  asked.ahead &= ~units;
  settle(slot);
}

void ChunkTable::begin_save(uint32_t slot) {
  ++slots_[slot].saves;
  settle(slot);
}

void ChunkTable::end_save(uint32_t slot) {
  UN_ASSERT(slots_[slot].saves > 0);
  --slots_[slot].saves;
  settle(slot);
}

void ChunkTable::push_waiting(uint32_t slot, TagLinks& links, uint32_t tag) {
  links.push_back(slots_[slot].waiting, tag);
  settle(slot);
}

TagList ChunkTable::hold(uint32_t slot) {
  const TagList waiting = slots_[slot].waiting;
  slots_[slot].waiting = {};
  slots_[slot].held = true;
  settle(slot);
  return waiting;
}

void ChunkTable::release(uint32_t slot) {
  slots_[slot].held = false;
  settle(slot);
}

void ChunkTable::drop_waiting(uint32_t slot) {
  // One that never had a chunk is in no list that it could be put back to.
  if (slot >= used_) return;
  slots_[slot].waiting = {};
  settle(slot);
}

// Puts the slot where it belongs: among those that may be evicted, or not.
void ChunkTable::settle(uint32_t slot) {
  const Slot& settled = slots_[slot];
  const bool is_pinned =
      settled.pending != 0 || settled.saves != 0 || settled.held || !settled.waiting.is_empty();
  if (is_pinned != settled.listed) return;
  if (is_pinned) {
    unlink(slot);
    ++pinned_;
  } else {
    settled.cold ? link_oldest(slot) : link_newest(slot);
    --pinned_;
  }
}

void ChunkTable::link_newest(uint32_t slot) {
  slots_[slot].listed = true;
  evictable_.push_newest(slots_.data(), slot);
}

void ChunkTable::link_oldest(uint32_t slot) {
  slots_[slot].listed = true;
  evictable_.push_oldest(slots_.data(), slot);
}

void ChunkTable::unlink(uint32_t slot) {
  slots_[slot].listed = false;
  evictable_.remove(slots_.data(), slot);
}

}  // namespace unbd::store
