// Owns: StoreAdapter, a read-only device whose bytes come from an object elsewhere, through chunks
// of it in memory: what is present is answered at once, the rest is read from the cache on disk,
// where there is one and has it, or asked for at a source.
// Runs on: its queue's thread; the device has one queue. The parts are shared with the source's
// thread.
// Must not: allocate, lock or read a clock while it serves; ask for a unit that is present or
// pending; or let a request wait for more than its own bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "adapter/adapter.h"
#include "base/arena.h"
#include "bridge/fill_bridge.h"
#include "store/chunk_table.h"
#include "store/config.h"
#include "store/counters.h"
#include "store/disk_cache.h"
#include "store/fill_table.h"
#include "store/prefetch.h"
#include "store/read_ahead.h"
#include "store/tag_list.h"

namespace unbd::store {

// What outlives the adapter: the source may still write to the arena and report when the queue has
// ended.
struct StoreParts {
  std::shared_ptr<Arena> arena;  // of config.memory_bytes at least
  std::shared_ptr<FillBridge> bridge;
  std::shared_ptr<StoreCounters> counters;
  CacheParts cache;  // without a file: none
};

class StoreAdapter final : public Adapter, private DiskCache::Owner {
 public:
  // config.is_valid(), and it prefetches only with a cache; depth: the tags are 0 … depth - 1.
  StoreAdapter(const StoreConfig& config, StoreParts parts, unsigned depth);
  ~StoreAdapter() override;

  unsigned further_sqes() const override {
    return (disk_ ? DiskCache::kMaxSqes : 0) + (prefetch_ ? Prefetch::kMaxSqes : 0);
  }
  int start(Ring& ring, CompletionSink& sink, EventSink& events) override;
  void submit(std::span<const Request> batch) override;
  void on_cqe(uint64_t payload, int32_t result, uint32_t flags) override;
  void end_turn() override {
    if (prefetch_) prefetch_more();
    parts_.bridge->ring();
  }
  void fail_all(int error) override;
  void stop() override;
  bool stopped() const override;

 private:
  // Who wants a fill: somebody who waits for it, a reader that will come to it, or nobody yet.
  enum class Lane : uint8_t { kUrgent, kAhead, kBackground };
  // kReading: the cache on disk reads into the request's buffer.
  enum class State : uint8_t { kIdle, kWaiting, kStarved, kReading };
  // Of the object; what has landed of a unit that is not whole. Empty: from == to.
  struct Part {
    uint64_t from_bytes = 0;
    uint64_t to_bytes = 0;
  };
  struct Tag {
    Request request{};
    uint64_t cursor_bytes = 0;  // of the object: what lies before it is in the request's buffer
    State state = State::kIdle;
  };

  void read(const Request& request);
  void advance(uint32_t tag);
  void copy_present(Tag& tag);
  void copy_part(Tag& tag, uint32_t slot, const Part& part);
  void copy_from(uint32_t slot, Tag& tag, uint64_t to_bytes);
  void want(uint32_t tag);
  void ask(uint64_t from_bytes, uint64_t to_bytes, bool urgent);
  bool ask_in_chunk(uint64_t chunk, uint64_t units, bool urgent);
  uint32_t push_fill(uint32_t slot, uint32_t first_unit, uint32_t unit_count, Lane lane,
                     bool from_disk);
  void promote(uint32_t slot, uint64_t units);
  void read_ahead(uint64_t offset_bytes, uint64_t end_bytes);

  void stage_event_wait();
  void on_report(const FillReport& report);
  struct Landing {
    uint64_t units = 0;         // are whole now
    uint64_t failed_units = 0;  // will not come
    int error = 0;              // why; 0: they have to be asked for again
    Part part;
  };
  void settle(uint32_t slot, const Landing& landing);
  void go_on(uint32_t tag, uint32_t slot, const Landing& landing);
  void retry_starved();

  // store_disk.cc
  void cache_has_read(uint32_t fill_id, uint64_t good_units) override;
  void cache_has_read_into(uint32_t tag, bool is_good) override;
  void cache_has_written(uint32_t slot) override;
  bool read_from_disk(uint32_t tag);
  void save(uint32_t slot, uint32_t first_unit, uint32_t unit_count);
  DiskCache::Range range_on_disk(uint32_t slot, uint32_t first_unit, uint32_t unit_count) const;

  // store_prefetch.cc
  bool may_prefetch() const;
  void prefetch_more();
  bool prefetch_chunk(uint64_t chunk);

  void finish(Tag& tag, int32_t result);

  uint64_t end_of(const Tag& tag) const {
    return tag.request.offset_bytes + tag.request.length_bytes;
  }
  uint64_t chunk_of(uint64_t offset_bytes) const { return offset_bytes >> chunk_shift_; }
  uint32_t unit_of(uint64_t offset_bytes) const {
    return static_cast<uint32_t>(offset_bytes & (config_.chunk_bytes - 1)) >> unit_shift_;
  }
  uint64_t units_within(uint64_t chunk, uint64_t from_bytes, uint64_t to_bytes) const;

  const StoreConfig config_;
  const StoreParts parts_;
  const int chunk_shift_;
  const int unit_shift_;
  ChunkTable table_;
  FillTable fills_;
  ReadAhead read_ahead_;
  std::optional<DiskCache> disk_;
  std::optional<Prefetch> prefetch_;
  std::vector<Tag> tags_;
  TagLinks links_;
  TagList starved_;  // no slot or no fill id was free; retried in order when a fill has ended
  Ring* ring_ = nullptr;
  CompletionSink* sink_ = nullptr;
  unsigned in_flight_ = 0;
  int failure_ = 0;
  bool waits_for_event_ = false;
  bool stopping_ = false;
};

}  // namespace unbd::store
