// Owns: what StoreAdapter saves to the cache on disk, and what happens when that has read or
// written (see store_adapter.h). Runs on: the queue's thread. Must not: let the disk hold up more
// than half of the memory; what it is too slow for is not saved.
#include "base/assert.h"
#include "store/store_adapter.h"

namespace unbd::store {
namespace {

// Of memory and ranges, for O_DIRECT on any disk.
constexpr uint64_t kDirectAlignmentBytes = 4096;

}  // namespace

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
  if (disk_->writes_in_flight() >= table_.size() / 2)
    disk_->skip(range);
  else if (disk_->write(slot, range))
    return table_.begin_save(slot);
  if (!prefetch_) return;
  // Memory alone has it: it must not be the first that goes.
  table_.promote(slot, 0);
  prefetch_->come_back_to(range.chunk);
}

void StoreAdapter::cache_has_written(uint32_t slot) {
  table_.end_save(slot);
  retry_starved();
}

// What the disk has and has shown to be right needs no place in memory, and no second copy. False:
// some of what the request still needs is elsewhere.
bool StoreAdapter::read_from_disk(uint32_t number) {
  Tag& tag = tags_[number];
  const uint64_t from = tag.cursor_bytes;
  const uint64_t to = end_of(tag);
  const uint64_t chunk = chunk_of(from);
  const uint64_t checked = disk_->checked(chunk);
  if (checked == 0 || chunk_of(to - 1) != chunk) return false;
  const uint64_t units = units_within(chunk, from, to);
  if ((units & ~checked) != 0) return false;
  std::byte* const into = tag.request.buffer + (from - tag.request.offset_bytes);
  if (((from | to | reinterpret_cast<uintptr_t>(into)) & (kDirectAlignmentBytes - 1)) != 0)
    return false;
  // A part of it may be on its way into memory: then it is there sooner.
  const uint32_t slot = table_.find(chunk);
  if (slot != ChunkTable::kNone && (table_.at(slot).pending & units) != 0) return false;
  tag.state = State::kReading;
  disk_->read_into(number, {.chunk = static_cast<uint32_t>(chunk),
                            .units = units,
                            .offset_bytes = from,
                            .length_bytes = static_cast<uint32_t>(to - from),
                            .into = into});
  return true;
}

void StoreAdapter::cache_has_read_into(uint32_t number, bool is_good) {
  Tag& tag = tags_[number];
  UN_ASSERT(tag.state == State::kReading);
  if (failure_ != 0) return finish(tag, -failure_);
  if (is_good) return finish(tag, static_cast<int32_t>(tag.request.length_bytes));
  advance(number);
  if (tag.state == State::kStarved) links_.push_back(starved_, number);
}

// What was not good is missing again, and whoever waits for it asks for it.
void StoreAdapter::cache_has_read(uint32_t fill_id, uint64_t good_units) {
  const FillTable::Entry& fill = fills_.of(fill_id);
  UN_ASSERT(fill.live && fill.from_disk);
  const uint32_t slot = fill.slot;
  const uint64_t bad_units = fill.units & ~good_units;
  fills_.give_back(fill_id);
  settle(slot, {.units = good_units, .failed_units = bad_units});
  retry_starved();
}

}  // namespace unbd::store
