// Owns: how DiskCache reads and writes units (see disk_cache.h). What becomes durable, and what has
// to go, stands in disk_cache_commit.cc.
// Runs on: the queue's thread.
// Must not: take an error of the disk for more than a cache that is not there.
#include "store/disk_cache.h"

#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "ring/ring.h"
#include "ring/user_data.h"

namespace unbd::store {

int DiskCache::make_parts(std::shared_ptr<CacheFile> file, uint64_t limit_bytes,
                          CacheParts* parts) {
  const int result = Arena::create(uint64_t{file->chunks()} * sizeof(Chunk), &parts->memory);
  if (result < 0) return result;
  parts->file = std::move(file);
  parts->limit_bytes = limit_bytes;
  parts->may_write = std::make_shared<std::atomic<bool>>(true);
  return 0;
}

DiskCache::DiskCache(const CacheParts& parts, StoreCounters& counters, unsigned depth)
    : parts_(parts),
      file_(*parts.file),
      counters_(counters),
      chunks_(reinterpret_cast<Chunk*>(parts.memory->data())),
      reads_into_(depth) {
  for (const uint32_t chunk : file_.chunks_found()) {
    chunks_[chunk].readable = file_.record(chunk).present;
    use(chunk);
  }
  set_used(file_.cached_bytes());
  for (uint32_t number = 0; number < kMaxWrites; ++number)
    writes_[number].next_free = number + 1 < kMaxWrites ? number + 1 : kNone;
}

DiskCache::~DiskCache() {
  UN_ASSERT(reads_in_flight_ + writes_in_flight_ + records_in_flight_ + evictions_in_flight_ == 0);
  UN_ASSERT(!is_syncing_ && !timer_runs_);
}

void DiskCache::start(Ring& ring, Owner& owner, EventSink& events) {
  ring_ = &ring;
  owner_ = &owner;
  events_ = &events;
  is_shrinking_ = true;
  shrink();
}

io_uring_sqe* DiskCache::stage(Kind kind, uint64_t index) {
  io_uring_sqe* const sqe = ring_->get_sqe();
  sqe->user_data = make_user_data(UserDataKind::kAdapter, payload(kind, index));
  return sqe;
}

// Whatever has ended may have been what kept a chunk from being given up.
void DiskCache::on_cqe(uint64_t payload, int32_t result) {
  dispatch(static_cast<Kind>(payload >> kKindShift), static_cast<uint32_t>(payload), result);
  shrink();
}

void DiskCache::dispatch(Kind kind, uint32_t index, int32_t result) {
  switch (kind) {
    case Kind::kRead:
      return on_read(index, result);
    case Kind::kReadInto:
      return on_read_into(index, result);
    case Kind::kWrite:
      return on_written(index, result);
    case Kind::kSync:
      return on_synced(result);
    case Kind::kRecord:
      return on_record_written(index, result);
    case Kind::kEvictRecord:
      return on_evicted_in_map(index, result);
    case Kind::kPunch:
      return on_punched(index, result);
    case Kind::kTimer:
      timer_runs_ = false;
      is_due_ = dirty_.first != kNone;
      return commit_if_due();
  }
  UN_ASSERT(false);
}

uint64_t DiskCache::place_of(const Range& range) const {
  return uint64_t{range.chunk} * file_.chunk_bytes() +
         uint64_t{range.first_unit} * file_.unit_bytes();
}

void DiskCache::read(uint32_t fill_id, const Range& range) {
  UN_ASSERT((chunks_[range.chunk].readable & range.units()) == range.units());
  reads_[fill_id] = range;
  ++reads_in_flight_;
  ++chunks_[range.chunk].in_flight;
  use(range.chunk);
  io_uring_sqe* const sqe = stage(Kind::kRead, fill_id);
  io_uring_prep_read(sqe, file_.data_fd(), range.bytes, range.unit_count * file_.unit_bytes(),
                     place_of(range));
}

void DiskCache::on_read(uint32_t fill_id, int32_t result) {
  const Range range = reads_[fill_id];
  Chunk& chunk = chunks_[range.chunk];
  --reads_in_flight_;
  --chunk.in_flight;
  const uint32_t whole = result > 0 ? static_cast<uint32_t>(result) / file_.unit_bytes() : 0;
  uint64_t good = 0;
  for (uint32_t at = 0; at < whole; ++at) {
    const uint32_t unit = range.first_unit + at;
    const uint64_t bit = uint64_t{1} << unit;
    const std::byte* const bytes = range.bytes + uint64_t{at} * file_.unit_bytes();
    if (file_.is_sum_right(range.chunk, unit, bytes)) good |= bit;
  }
  // Another read may have found in the meantime that one of them is lost.
  chunk.checked |= good & chunk.readable;
  counters_.add(StoreCounters::kCacheReadBytes, file_.bytes_of(range.chunk, good));
  const uint64_t bad = range.units() & ~good;
  if (bad != 0) {
    counters_.add(StoreCounters::kCacheCorruptBytes, file_.bytes_of(range.chunk, bad));
    forget(range.chunk, bad);
  }
  owner_->cache_has_read(fill_id, good);
}

void DiskCache::read_into(uint32_t tag, const Piece& piece) {
  Chunk& chunk = chunks_[piece.chunk];
  UN_ASSERT((chunk.checked & piece.units) == piece.units);
  reads_into_[tag] = piece;
  ++reads_in_flight_;
  ++chunk.in_flight;
  use(piece.chunk);
  io_uring_sqe* const sqe = stage(Kind::kReadInto, tag);
  io_uring_prep_read(sqe, file_.data_fd(), piece.into, piece.length_bytes, piece.offset_bytes);
}

// Short is what a file gives that somebody has cut off: it is as lost as what cannot be read.
void DiskCache::on_read_into(uint32_t tag, int32_t result) {
  const Piece& piece = reads_into_[tag];
  Chunk& chunk = chunks_[piece.chunk];
  --reads_in_flight_;
  --chunk.in_flight;
  const bool is_good = result == static_cast<int32_t>(piece.length_bytes);
  if (is_good) {
    counters_.add(StoreCounters::kCacheReadBytes, piece.length_bytes);
  } else if (result == -EINVAL) {
    // O_DIRECT on a disk of large blocks; whole units it has written, and gives back.
    reads_parts_ = false;
  } else {
    const uint64_t bad = piece.units & chunk.readable;
    counters_.add(StoreCounters::kCacheCorruptBytes, file_.bytes_of(piece.chunk, bad));
    forget(piece.chunk, bad);
  }
  owner_->cache_has_read_into(tag, is_good);
}

bool DiskCache::write(uint32_t slot, const Range& range) {
  Chunk& chunk = chunks_[range.chunk];
  UN_ASSERT((chunk.readable & range.units()) == 0);
  const uint64_t bytes = file_.bytes_of(range.chunk, range.units());
  // Before room is made: what else of the chunk is there must not go for that.
  ++chunk.in_flight;
  if (!may_write() || chunk.is_evicted || free_write_ == kNone || !make_room(bytes)) {
    --chunk.in_flight;
    skip(range);
    return false;
  }
  pad_and_sum(range);
  const uint32_t number = std::exchange(free_write_, writes_[free_write_].next_free);
  writes_[number] = {.range = range, .slot = slot, .next_free = kNone};
  ++writes_in_flight_;
  set_used(used_bytes_ + bytes);
  io_uring_sqe* const sqe = stage(Kind::kWrite, number);
  io_uring_prep_write(sqe, file_.data_fd(), range.bytes, range.unit_count * file_.unit_bytes(),
                      place_of(range));
  return true;
}

void DiskCache::skip(const Range& range) {
  counters_.add(StoreCounters::kCacheSkippedBytes, file_.bytes_of(range.chunk, range.units()));
}

// The object may end within its last unit.
void DiskCache::pad_and_sum(const Range& range) {
  const uint32_t unit_bytes = file_.unit_bytes();
  const uint64_t length = uint64_t{range.unit_count} * unit_bytes;
  const uint64_t of_object = file_.bytes_of(range.chunk, range.units());
  std::memset(range.bytes + of_object, 0, length - of_object);
  for (uint32_t at = 0; at < range.unit_count; ++at)
    file_.set_sum(range.chunk, range.first_unit + at, range.bytes + uint64_t{at} * unit_bytes);
}

void DiskCache::on_written(uint32_t number, int32_t result) {
  const auto [range, slot, unused] = writes_[number];
  writes_[number].next_free = std::exchange(free_write_, number);
  Chunk& chunk = chunks_[range.chunk];
  --writes_in_flight_;
  --chunk.in_flight;
  const uint64_t bytes = file_.bytes_of(range.chunk, range.units());
  if (result == static_cast<int32_t>(range.unit_count * file_.unit_bytes())) {
    chunk.readable |= range.units();
    chunk.unsynced |= range.units();
    counters_.add(StoreCounters::kCacheWrittenBytes, bytes);
    use(range.chunk);
    dirty_.bytes += bytes;
    mark_dirty(range.chunk);
  } else {
    set_used(used_bytes_ - bytes);
    skip(range);
    // A write that is cut short has met the end of the disk.
    give_up_writing("written", result < 0 ? -result : ENOSPC);
  }
  owner_->cache_has_written(slot);
}

void DiskCache::use(uint32_t number) {
  Chunk& chunk = chunks_[number];
  if (number == used_.newest()) return;
  if (chunk.is_listed) used_.remove(chunks_, number);
  chunk.is_listed = true;
  used_.push_newest(chunks_, number);
}

// They cannot be read from here any more, nor by a successor once the record is written.
void DiskCache::forget(uint32_t number, uint64_t units) {
  Chunk& chunk = chunks_[number];
  const uint64_t gone = chunk.readable & units;
  set_used(used_bytes_ - file_.bytes_of(number, gone));
  chunk.readable &= ~gone;
  chunk.unsynced &= ~gone;
  chunk.committing &= ~gone;
  chunk.checked &= ~gone;
  file_.drop(number, gone);
  mark_dirty(number);
}

void DiskCache::set_used(uint64_t bytes) {
  counters_.add(StoreCounters::kCachedBytes, bytes - used_bytes_);
  used_bytes_ = bytes;
}

// A full disk may have room later, and who allows it then knows; anything else stays.
void DiskCache::give_up_writing(const char* what, int error) {
  if (error == ENOSPC || error == EDQUOT)
    parts_.may_write->store(false, std::memory_order_relaxed);
  else
    is_broken_ = true;
  if (std::exchange(told_error_, error) == error) return;
  char text[256];
  std::snprintf(text, sizeof(text),
                "the cache on disk cannot be %s: %s; what it lacks is served without it", what,
                ::strerrordesc_np(error));
  events_->post("warning", text);
}

}  // namespace unbd::store
