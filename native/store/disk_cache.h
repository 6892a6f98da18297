// Owns: DiskCache, the cache on disk as a store's queue uses it: reads from it, writes to it, and
// what of it is durable or has to go.
// Runs on: the queue's thread, by its ring; limit and permission to write may come from another
// one. Must not: allocate, lock or wait after its construction; hand out a unit that does not have
// its sum; let the map promise what is not durable; or harm a request: what it cannot do it leaves.
//
// The way of a unit: fetched into the arena, written to the data file (from then on it can be read
// here), synced together with others, and only then marked as present in the map. What is killed
// on this way is fetched again by a successor.
//
// The way back: whole units into the arena, and against their sums, the first time; from then on
// what a request wants of them straight into its buffer.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "adapter/adapter.h"
#include "base/arena.h"
#include "bridge/fill_bridge.h"
#include "store/cache_file.h"
#include "store/config.h"
#include "store/counters.h"
#include "store/lru_list.h"

struct io_uring_sqe;

namespace unbd::store {

struct CacheParts {
  std::shared_ptr<CacheFile> file;  // null: there is no cache on disk
  uint64_t limit_bytes = 0;         // of what it may hold
  // Set by the control plane, and taken back here when a write has failed.
  std::shared_ptr<std::atomic<bool>> may_write;
  std::shared_ptr<Arena> memory;  // for what is known of each chunk; only what is used takes any
};

class DiskCache {
 public:
  class Owner {
   public:
    // Of the read with this fill's id; all units that are not good have to be fetched.
    virtual void cache_has_read(uint32_t fill_id, uint64_t good_units) = 0;
    // All that read_into() was asked for this tag; or none of it, and its units are absent now, or
    // not to be read so.
    virtual void cache_has_read_into(uint32_t tag, bool is_good) = 0;
    // The slot's bytes are not needed any more.
    virtual void cache_has_written(uint32_t slot) = 0;

   protected:
    ~Owner() = default;
  };

  struct Range {
    uint32_t chunk;
    uint32_t first_unit;
    uint32_t unit_count;
    std::byte* bytes;  // in the arena, whole units, aligned to a page
    uint64_t units() const { return run_of_units(first_unit, unit_count); }
  };

  struct Piece {
    uint32_t chunk;
    uint64_t units;         // in which it lies
    uint64_t offset_bytes;  // of the object, a multiple of a page, as length_bytes
    uint32_t length_bytes;
    std::byte* into;  // aligned to a page; it belongs to the disk until that has read
  };

  // The data is synced when so much is written, or kSyncDelayMs after the first of it.
  static constexpr uint64_t kSyncBytes = 16 << 20;
  static constexpr unsigned kSyncDelayMs = 1000;
  static constexpr unsigned kMaxWrites = 256;
  static constexpr unsigned kMaxRecordWrites = 32;
  static constexpr unsigned kMaxEvictions = 32;
  // And one sync, one timer.
  static constexpr unsigned kMaxSqes =
      kMaxFills + kMaxWrites + kMaxRecordWrites + kMaxEvictions + 2;

  // Returns 0 or -errno.
  static int make_parts(std::shared_ptr<CacheFile> file, uint64_t limit_bytes, CacheParts* parts);

  // parts.file is not null; depth: the tags are 0 … depth - 1. Payloads of its CQEs are not 0.
  DiskCache(const CacheParts& parts, StoreCounters& counters, unsigned depth);
  ~DiskCache();
  DiskCache(const DiskCache&) = delete;
  DiskCache& operator=(const DiskCache&) = delete;

  // An entry that holds more than it may now is made smaller from here on, a few chunks at a time.
  void start(Ring& ring, Owner& owner, EventSink& events);
  uint64_t present(uint64_t chunk) const { return chunks_[chunk].readable; }
  // Of present: had its sum when it was read since the start, so that read_into() may have it.
  uint64_t checked(uint64_t chunk) const { return reads_parts_ ? chunks_[chunk].checked : 0; }
  // range is present.
  void read(uint32_t fill_id, const Range& range);
  // units are checked. A tag has one such read at a time.
  void read_into(uint32_t tag, const Piece& piece);
  bool may_write() const {
    return parts_.may_write->load(std::memory_order_relaxed) && !is_broken_ && !is_stopping_;
  }
  // False: it is not written, and nothing is told of it later. range is not present.
  bool write(uint32_t slot, const Range& range);
  // range, which was fetched, is not written; counts it.
  void skip(const Range& range);
  unsigned writes_in_flight() const { return writes_in_flight_; }
  void on_cqe(uint64_t payload, int32_t result);

  // Makes durable what is written; stopped() when that and all else is done.
  void stop();
  bool stopped() const;

 private:
  enum class Kind : uint8_t {
    kRead = 1,
    kReadInto,
    kWrite,
    kSync,
    kRecord,
    kEvictRecord,
    kPunch,
    kTimer,
  };
  static constexpr int kKindShift = 48;
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr unsigned kMaxLooksForVictim = 64;

  struct Chunk {
    uint64_t readable;    // written, or found at the start
    uint64_t unsynced;    // of readable: perhaps not durable
    uint64_t committing;  // of readable: durable when the sync under way has ended
    uint64_t checked;     // of readable: had its sum when it was read
    uint32_t older;       // LruList's
    uint32_t newer;
    uint32_t next_dirty;
    uint32_t next_committing;
    uint16_t in_flight;  // reads and writes of data or record
    bool is_listed;      // in used_
    bool is_dirty;       // in dirty_: its record has to be written
    bool is_evicted;     // its hole is being punched
  };
  // Chunks in the order in which they came.
  struct DirtyList {
    uint32_t first = kNone;
    uint32_t last = kNone;
    uint64_t bytes = 0;
  };
  struct Write {
    Range range;
    uint32_t slot;
    uint32_t next_free;
  };

  static uint64_t payload(Kind kind, uint64_t index) {
    return static_cast<uint64_t>(kind) << kKindShift | index;
  }

  // disk_cache.cc
  void dispatch(Kind kind, uint32_t index, int32_t result);
  io_uring_sqe* stage(Kind kind, uint64_t index);
  uint64_t place_of(const Range& range) const;
  void on_read(uint32_t fill_id, int32_t result);
  void on_read_into(uint32_t tag, int32_t result);
  void on_written(uint32_t number, int32_t result);
  void pad_and_sum(const Range& range);
  void use(uint32_t chunk);
  void forget(uint32_t chunk, uint64_t units);
  void set_used(uint64_t bytes);
  void give_up_writing(const char* what, int error);

  // disk_cache_commit.cc
  void mark_dirty(uint32_t chunk);
  void commit_if_due();
  void begin_commit();
  void on_synced(int32_t result);
  void write_records();
  void stage_record(Kind kind, uint32_t chunk);
  void on_record_written(uint32_t chunk, int32_t result);
  bool make_room(uint64_t bytes);
  bool evict_one();
  void shrink();
  void on_evicted_in_map(uint32_t chunk, int32_t result);
  void on_punched(uint32_t chunk, int32_t result);

  const CacheParts parts_;
  CacheFile& file_;
  StoreCounters& counters_;
  Chunk* const chunks_;
  LruList<Chunk> used_;
  uint64_t used_bytes_ = 0;  // readable, or being written

  std::array<Range, kMaxFills> reads_{};
  std::vector<Piece> reads_into_;  // by tag
  std::array<Write, kMaxWrites> writes_{};
  uint32_t free_write_ = 0;
  unsigned reads_in_flight_ = 0;
  unsigned writes_in_flight_ = 0;
  unsigned records_in_flight_ = 0;
  unsigned evictions_in_flight_ = 0;

  DirtyList dirty_;
  uint32_t committing_ = kNone;  // the first chunk whose record the commit under way has to write
  bool is_syncing_ = false;
  bool timer_runs_ = false;
  bool is_due_ = false;
  bool is_stopping_ = false;
  bool is_shrinking_ = false;  // to the limit: the entry may be from a time with a higher one
  bool reads_parts_ = true;    // of units
  bool is_broken_ = false;     // nothing is written any more, whatever is allowed
  int told_error_ = 0;

  Ring* ring_ = nullptr;
  Owner* owner_ = nullptr;
  EventSink* events_ = nullptr;
};

}  // namespace unbd::store
