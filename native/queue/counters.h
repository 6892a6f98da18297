// Owns: a queue's counters, on cache lines of their own.
// Runs on: written by the queue's thread alone (so a plain load and store is enough), read by any.
// Must not: order anything; every access is relaxed.
#pragma once

#include <atomic>
#include <cstdint>

#include "queue/queue_types.h"

namespace unbd {

class alignas(128) QueueCounters {
 public:
  enum Name : unsigned {
    kReads,
    kReadBytes,
    kWrites,
    kWriteBytes,
    kFlushes,
    kDiscards,
    kWriteZeroes,
    kErrors,
    kStaleCompletions,
    kInFlight,
    kCount
  };

  void add(Name name, uint64_t amount) { set(name, values_[name].load(kRelaxed) + amount); }
  void set(Name name, uint64_t value) { values_[name].store(value, kRelaxed); }

  void add_to(QueuesStats* stats) const {
    stats->reads += get(kReads);
    stats->read_bytes += get(kReadBytes);
    stats->writes += get(kWrites);
    stats->write_bytes += get(kWriteBytes);
    stats->flushes += get(kFlushes);
    stats->discards += get(kDiscards);
    stats->write_zeroes += get(kWriteZeroes);
    stats->errors += get(kErrors);
    stats->stale_completions += get(kStaleCompletions);
    stats->in_flight += get(kInFlight);
  }

 private:
  static constexpr std::memory_order kRelaxed = std::memory_order_relaxed;
  uint64_t get(Name name) const { return values_[name].load(kRelaxed); }

  std::atomic<uint64_t> values_[kCount]{};
};

}  // namespace unbd
