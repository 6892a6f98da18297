// Owns: what StoreAdapter brings to the cache on disk before anybody asks for it (see
// store_adapter.h).
// Runs on: the queue's thread, at the end of a turn.
// Must not: take what those who wait or read ahead could have, nor ask for what is there, on its
// way, or cannot be kept.
#include <bit>

#include "base/assert.h"
#include "store/store_adapter.h"

namespace unbd::store {
namespace {

// Of an image that is there already there is much to look at, and requests must not wait for that.
constexpr unsigned kMaxLooks = 4096;

}  // namespace

// What says no here changes within a turn, at the end of which it is asked again.
bool StoreAdapter::may_prefetch() const {
  return prefetch_->may_begin() && !stopping_ && failure_ == 0 && starved_.is_empty() &&
         fills_.has_free(false) && table_.pinned() < table_.size() / 2 &&
         disk_->writes_in_flight() < prefetch_->most_at_once();
}

void StoreAdapter::prefetch_more() {
  for (unsigned looks = 0; may_prefetch(); ++looks) {
    if (!disk_->may_write()) return prefetch_->pause(Prefetch::ns(Prefetch::kPauseMs));
    if (looks == kMaxLooks) return prefetch_->pause(1);
    if (!prefetch_chunk(prefetch_->chunk())) prefetch_->next();
  }
}

// False: there is nothing to begin in this chunk, now.
bool StoreAdapter::prefetch_chunk(uint64_t chunk) {
  const uint64_t missing =
      units_within(chunk, chunk << chunk_shift_, config_.size_bytes) & ~disk_->present(chunk);
  if (missing == 0) return false;
  uint32_t slot = table_.find(chunk);
  if (slot == ChunkTable::kNone) {
    slot = table_.insert_cold(chunk);
    UN_ASSERT(slot != ChunkTable::kNone);  // half of them are not pinned
  }
  const ChunkTable::Slot& stands = table_.at(slot);
  const uint64_t to_fetch = missing & ~(stands.present | stands.pending);
  if (to_fetch != 0) {
    const uint32_t first = static_cast<uint32_t>(std::countr_zero(to_fetch));
    const uint32_t count = static_cast<uint32_t>(std::countr_one(to_fetch >> first));
    const uint32_t id = push_fill(slot, first, count, Lane::kBackground, false);
    prefetch_->begun(fills_.of(id).length_bytes);
    return true;
  }
  prefetch_->postpone();
  // What the disk was too slow for when it was fetched. What is being saved is missing there too,
  // and a fill that goes on saves all that it has brought when it ends.
  const bool is_at_rest = stands.saves == 0 && stands.pending == 0;
  uint64_t to_save = is_at_rest ? missing & stands.present : 0;
  while (to_save != 0) {
    const uint32_t first = static_cast<uint32_t>(std::countr_zero(to_save));
    const uint32_t count = static_cast<uint32_t>(std::countr_one(to_save >> first));
    save(slot, first, count);
    to_save &= ~run_of_units(first, count);
  }
  return false;
}

}  // namespace unbd::store
