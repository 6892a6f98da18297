// Owns: how what DiskCache has written becomes durable, and how chunks leave it (see disk_cache.h).
// Runs on: the queue's thread.
// Must not: punch a hole under a read or a write, or before the map has given the chunk up.
#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/assert.h"
#include "ring/ring.h"
#include "ring/user_data.h"
#include "store/disk_cache.h"

namespace unbd::store {
namespace {

constexpr __kernel_timespec kSyncDelay = {
    .tv_sec = DiskCache::kSyncDelayMs / 1000,
    .tv_nsec = DiskCache::kSyncDelayMs % 1000 * 1'000'000LL,
};

}  // namespace

void DiskCache::mark_dirty(uint32_t number) {
  Chunk& chunk = chunks_[number];
  if (!chunk.is_dirty) {
    chunk.is_dirty = true;
    chunk.next_dirty = kNone;
    (dirty_.first == kNone ? dirty_.first : chunks_[dirty_.last].next_dirty) = number;
    dirty_.last = number;
  }
  commit_if_due();
}

// Together, since a sync costs the disk as much for one unit as for many.
void DiskCache::commit_if_due() {
  if (is_syncing_ || committing_ != kNone || records_in_flight_ > 0 || dirty_.first == kNone)
    return;
  if (is_due_ || is_stopping_ || dirty_.bytes >= kSyncBytes) {
    begin_commit();
  } else if (!timer_runs_) {
    timer_runs_ = true;
    io_uring_sqe* const sqe = stage(Kind::kTimer, 0);
    io_uring_prep_timeout(sqe, const_cast<__kernel_timespec*>(&kSyncDelay), 0, 0);
  }
}

void DiskCache::begin_commit() {
  is_due_ = false;
  committing_ = std::exchange(dirty_, {}).first;
  for (uint32_t number = committing_; number != kNone; number = chunks_[number].next_committing) {
    Chunk& chunk = chunks_[number];
    // It may be dirty anew before its record is written.
    chunk.next_committing = chunk.next_dirty;
    chunk.is_dirty = false;
    chunk.committing = std::exchange(chunk.unsynced, 0);
    ++chunk.in_flight;
  }
  is_syncing_ = true;
  io_uring_sqe* const sqe = stage(Kind::kSync, 0);
  io_uring_prep_fsync(sqe, file_.data_fd(), IORING_FSYNC_DATASYNC);
}

void DiskCache::on_synced(int32_t result) {
  is_syncing_ = false;
  if (result < 0) give_up_writing("synced", -result);
  for (uint32_t number = committing_; number != kNone; number = chunks_[number].next_committing) {
    Chunk& chunk = chunks_[number];
    const uint64_t units = std::exchange(chunk.committing, 0);
    if (result >= 0) {
      file_.keep(number, units);
    } else {
      set_used(used_bytes_ - file_.bytes_of(number, units));
      chunk.readable &= ~units;
      chunk.checked &= ~units;
    }
  }
  write_records();
}

// A few at a time, from the first on.
void DiskCache::write_records() {
  while (committing_ != kNone && records_in_flight_ < kMaxRecordWrites) {
    const uint32_t number = std::exchange(committing_, chunks_[committing_].next_committing);
    ++records_in_flight_;
    stage_record(Kind::kRecord, number);
  }
}

void DiskCache::stage_record(Kind kind, uint32_t number) {
  io_uring_sqe* const sqe = stage(kind, number);
  io_uring_prep_write(sqe, file_.map_fd(), &file_.record(number), sizeof(CacheFile::Record),
                      CacheFile::record_offset(number));
}

void DiskCache::on_record_written(uint32_t number, int32_t result) {
  --records_in_flight_;
  --chunks_[number].in_flight;
  if (result != static_cast<int32_t>(sizeof(CacheFile::Record)))
    give_up_writing("written", result < 0 ? -result : ENOSPC);
  write_records();
  commit_if_due();
}

// Gives up the least recently used chunks for so many bytes. False: there is no room for them.
bool DiskCache::make_room(uint64_t bytes) {
  while (used_bytes_ + bytes > parts_.limit_bytes) {
    if (bytes > parts_.limit_bytes || !evict_one()) return false;
  }
  return true;
}

bool DiskCache::evict_one() {
  if (evictions_in_flight_ == kMaxEvictions) return false;
  uint32_t number = used_.oldest();
  for (unsigned looks = 0; number != kNone; number = chunks_[number].newer) {
    const Chunk& chunk = chunks_[number];
    if (chunk.in_flight == 0 && !chunk.is_dirty) break;
    if (++looks == kMaxLooksForVictim) return false;
  }
  if (number == kNone) return false;
  Chunk& chunk = chunks_[number];
  set_used(used_bytes_ - file_.bytes_of(number, chunk.readable));
  used_.remove(chunks_, number);
  file_.drop(number, ~uint64_t{0});
  chunk = {};
  chunk.is_evicted = true;
  ++evictions_in_flight_;
  stage_record(Kind::kEvictRecord, number);
  return true;
}

// What is within the limit stays there: write() makes room first. Not asked is whether anything may
// be written: on a full disk it is this that gives room.
void DiskCache::shrink() {
  if (is_shrinking_ && !is_broken_) is_shrinking_ = !make_room(0);
}

void DiskCache::on_evicted_in_map(uint32_t number, int32_t result) {
  if (result < 0) {
    on_punched(number, result);
    return;
  }
  io_uring_sqe* const sqe = stage(Kind::kPunch, number);
  io_uring_prep_fallocate(sqe, file_.data_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          uint64_t{number} * file_.chunk_bytes(), file_.chunk_bytes());
}

void DiskCache::on_punched(uint32_t number, int32_t result) {
  --evictions_in_flight_;
  chunks_[number].is_evicted = false;
  if (result >= 0) return;
  // Or one chunk after the other would be forgotten here, and none of them gone from the disk.
  is_shrinking_ = false;
  give_up_writing("emptied", -result);
}

void DiskCache::stop() {
  is_stopping_ = true;
  // Nobody waits for that: a successor goes on with it.
  is_shrinking_ = false;
  if (timer_runs_) {
    io_uring_sqe* const sqe = ring_->get_sqe();
    io_uring_prep_cancel64(sqe, make_user_data(UserDataKind::kAdapter, payload(Kind::kTimer, 0)),
                           0);
    sqe->user_data = make_user_data(UserDataKind::kIgnored, 0);
  }
  commit_if_due();
}

bool DiskCache::stopped() const {
  return is_stopping_ && !timer_runs_ && !is_syncing_ && dirty_.first == kNone &&
         committing_ == kNone && reads_in_flight_ == 0 && writes_in_flight_ == 0 &&
         records_in_flight_ == 0 && evictions_in_flight_ == 0;
}

}  // namespace unbd::store
