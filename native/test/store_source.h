// Owns: RandomSource, a source on its own thread that brings what it is asked for in pieces, in any
// order, with errors, and that judges what it is asked for: no unit that it has brought to a slot
// is asked for again while its chunk stands there. Runs on: the test's thread and its own. Must
// not: write a byte outside a fill, or before it is due.
#pragma once

#include <cerrno>
#include <map>
#include <random>
#include <thread>

#include "test/store_fixture.h"

namespace unbd::test {

struct RandomSourceOptions {
  unsigned seed = 0;
  unsigned error_percent = 0;  // of the steps of a fill
  unsigned sleep_percent = 0;
  // False: slots are also filled from the cache on disk, so that only what is in flight tells which
  // chunk stands in which.
  bool fills_all_slots = true;
};

class RandomSource {
 public:
  RandomSource(const store::StoreConfig& config, StoreHarness& harness,
               const RandomSourceOptions& options)
      : config_(config),
        parts_(harness.parts()),
        doorbell_(harness.doorbell()),
        options_(options),
        random_(options.seed),
        thread_([this] { run(); }) {}
  ~RandomSource() { join(); }

  // Leaves fills without an end.
  void join() {
    if (!thread_.joinable()) return;
    over_.store(true);
    doorbell_.ring();
    thread_.join();
  }
  uint64_t promotions() const { return promotions_; }  // after join()
  // Whether all that was asked for has landed, as the queue has heard of it; without errors.
  bool is_idle(const StoreHarness& harness) const {
    using enum store::StoreCounters::Name;
    return harness.count(kFills) == accepted_.load() &&
           harness.count(kBytesFilled) == accepted_bytes_.load();
  }

 private:
  // What stands in a slot of the arena, as far as was asked for.
  struct Standing {
    uint64_t chunk = UINT64_MAX;
    uint64_t units = 0;
  };

  void run() {
    while (!over_.load()) {
      const uint32_t rung = doorbell_.rings.load(std::memory_order_acquire);
      Fill fill;
      while (parts_.bridge->take(&fill))
        accept(fill);
      if (live_.empty()) {
        if (!over_.load()) doorbell_.rings.wait(rung);
        continue;
      }
      if (random_() % 100 < options_.sleep_percent)
        std::this_thread::sleep_for(std::chrono::microseconds(random_() % 300));
      step(std::next(live_.begin(), static_cast<long>(random_() % live_.size())));
    }
  }

  uint64_t units_of(uint64_t from_bytes, uint64_t to_bytes) const {
    uint64_t units = 0;
    for (uint64_t at = from_bytes; at < to_bytes; at += config_.unit_bytes())
      units |= uint64_t{1} << (at % config_.chunk_bytes / config_.unit_bytes());
    return units;
  }

  void accept(const Fill& fill) {
    if (fill.kind == Fill::Kind::kPromote) {
      // Once a fill, and only for one that was read ahead.
      const auto known = live_.find(fill.id);
      UN_ASSERT(known != live_.end() && !known->second.fill.urgent);
      known->second.fill.urgent = true;
      ++promotions_;
      return;
    }
    UN_ASSERT(fill.length_bytes > 0 && fill.offset_bytes + fill.length_bytes <= config_.size_bytes);
    const uint64_t chunk = fill.offset_bytes / config_.chunk_bytes;
    const uint64_t slot = fill.arena_offset_bytes / config_.chunk_bytes;
    UN_ASSERT((fill.offset_bytes + fill.length_bytes - 1) / config_.chunk_bytes == chunk);
    UN_ASSERT(slot < config_.slots() && fill.arena_offset_bytes % config_.chunk_bytes ==
                                            fill.offset_bytes % config_.chunk_bytes);
    judge_in_flight(fill, chunk, slot);
    if (options_.fills_all_slots) judge_standing(fill, chunk, slot);
    live_[fill.id] = {.fill = fill, .landed_bytes = 0};
    accepted_bytes_ += fill.length_bytes;
    ++accepted_;
  }

  // What is in flight to the slot is of the same chunk, and of other units of it; what is in flight
  // of the chunk goes to the same slot.
  void judge_in_flight(const Fill& fill, uint64_t chunk, uint64_t slot) const {
    for (const auto& [id, live] : live_) {
      const Fill& other = live.fill;
      const bool is_same_slot = other.arena_offset_bytes / config_.chunk_bytes == slot;
      UN_ASSERT(is_same_slot == (other.offset_bytes / config_.chunk_bytes == chunk));
      UN_ASSERT(fill.offset_bytes >= other.offset_bytes + other.length_bytes ||
                other.offset_bytes >= fill.offset_bytes + fill.length_bytes);
    }
  }

  void judge_standing(const Fill& fill, uint64_t chunk, uint64_t slot) {
    Standing& standing = standing_[slot];
    if (standing.chunk != chunk) {
      // No chunk stands twice.
      for (const auto& [other, stands] : standing_)
        UN_ASSERT(stands.chunk != chunk);
      standing = {.chunk = chunk, .units = 0};
    }
    const uint64_t units = units_of(fill.offset_bytes, fill.offset_bytes + fill.length_bytes);
    UN_ASSERT((standing.units & units) == 0);
    standing.units |= units;
  }

  struct Live {
    Fill fill;
    uint32_t landed_bytes = 0;
  };

  void step(std::map<uint32_t, Live>::iterator chosen) {
    Live& live = chosen->second;
    const Fill& fill = live.fill;
    const uint32_t left = fill.length_bytes - live.landed_bytes;
    uint32_t more = static_cast<uint32_t>(random_() % (left / 8) + 1) * 8;
    if (random_() % 4 == 0) more = left;
    write_object(parts_.arena->data() + fill.arena_offset_bytes + live.landed_bytes,
                 fill.offset_bytes + live.landed_bytes, more);
    live.landed_bytes += more;
    const bool fails = random_() % 100 < options_.error_percent;
    const bool is_whole = live.landed_bytes == fill.length_bytes;
    if (fails && !is_whole) {
      const uint64_t whole_end =
          fill.offset_bytes + live.landed_bytes / config_.unit_bytes() * config_.unit_bytes();
      standing_[fill.arena_offset_bytes / config_.chunk_bytes].units &=
          ~units_of(whole_end, fill.offset_bytes + fill.length_bytes);
    }
    parts_.bridge->report(
        {.id = fill.id, .landed_bytes = live.landed_bytes, .error = fails ? EIO : 0});
    if (fails || is_whole) live_.erase(chosen);
  }

  const store::StoreConfig config_;
  const store::StoreParts parts_;
  TestDoorbell& doorbell_;
  const RandomSourceOptions options_;
  std::mt19937 random_;
  std::map<uint32_t, Live> live_;
  std::map<uint64_t, Standing> standing_;
  uint64_t promotions_ = 0;
  std::atomic<uint64_t> accepted_ = 0;
  std::atomic<uint64_t> accepted_bytes_ = 0;
  std::atomic<bool> over_{false};
  std::thread thread_;  // last: it runs at once
};

}  // namespace unbd::test
