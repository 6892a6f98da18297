// Owns: what StoreAdapter saves to the cache on disk, and what happens when that has read or
// written (see store_adapter.h). Runs on: the queue's thread. Must not: let the disk hold up more
// than half of the memory; what it is too slow for is not saved.
#include "base/assert.h"
#include "store/store_adapter.h"

namespace unbd::store {

DiskCache::Range StoreAdapter::range_on_disk(uint32_t slot, uint32_t first_unit,
                                             uint32_t unit_count) const {
  const uint64_t place = (uint64_t{slot} << chunk_shift_) + (uint64_t{first_unit} << unit_shift_);
  return {.chunk = static_cast<uint32_t>(table_.at(slot).chunk),
          .first_unit = first_unit,
          .unit_count = unit_count,
          .bytes = parts_.arena->data() + place};
}

// What a source has brought. The slot stays where it is until it is written.
void StoreAdapter::save(uint32_t slot, uint32_t first_unit, uint32_t unit_count) {
  const DiskCache::Range range = range_on_disk(slot, first_unit, unit_count);
  if (disk_->writes_in_flight() >= table_.size() / 2) {
    disk_->skip(range);
    return;
  }
  if (disk_->write(slot, range)) table_.begin_save(slot);
}

void StoreAdapter::cache_has_written(uint32_t slot) {
  table_.end_save(slot);
  retry_starved();
}

// What was not good is missing again, and whoever waits for it asks for it.
void StoreAdapter::cache_has_read(uint32_t fill_id, uint64_t good_units) {
  const FillTable::Entry& fill = fills_.of(fill_id);
  UN_ASSERT(fill.live && fill.from_disk);
  const uint32_t slot = fill.slot;
  const uint64_t bad_units = fill.units & ~good_units;
  fills_.give_back(fill_id);
  settle(slot, good_units, bad_units, 0);
  retry_starved();
}

}  // namespace unbd::store
