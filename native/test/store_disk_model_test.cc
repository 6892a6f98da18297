// Owns: the trial of a store with a cache on disk: random reads against a source that is slow, late
// and faulty, round after round over the same entry, with little memory and a low limit, and with
// damage to the files between rounds. The harness judges every byte.
// Runs on: the test's thread as the queue, and the source's.
// Must not: need more than a few seconds, also under a sanitizer.
#include "test/cache_fixture.h"
#include "test/check.h"
#include "test/random_reads.h"
#include "test/store_source.h"

using namespace unbd;
using unbd::store::StoreConfig;
using unbd::store::StoreCounters;
using unbd::test::CacheEntry;
using unbd::test::flip;
using unbd::test::new_seed;
using unbd::test::Outcome;
using unbd::test::RandomSource;
using unbd::test::RandomSourceOptions;
using unbd::test::read_at_random;
using unbd::test::StoreHarness;
using unbd::test::tiny;

namespace {

struct Round {
  Outcome outcome;
  uint64_t filled_bytes = 0;
  uint64_t skipped_bytes = 0;
  uint64_t written_bytes = 0;
  uint64_t read_from_disk_bytes = 0;
  uint64_t corrupt_bytes = 0;
  unsigned warnings = 0;
};

Round run_round(const StoreConfig& config, const CacheEntry& entry, uint64_t limit_bytes,
                RandomSourceOptions options, unsigned reads) {
  StoreHarness harness(config, entry.parts(limit_bytes));
  options.fills_all_slots = false;
  RandomSource source(config, harness, options);
  Round round{.outcome = read_at_random(config, harness, options.seed, reads)};
  UN_ASSERT(harness.count(StoreCounters::kCachedBytes) <= limit_bytes);
  // Who read has what it wanted, perhaps before the unit around that was there.
  const bool brings_no_more = config.maximum_window_bytes == 0 && !config.prefetches;
  while (brings_no_more && options.error_percent == 0 && !source.is_idle(harness))
    harness.turn();
  // While the source still brings what was read ahead.
  harness.end();
  source.join();
  round.filled_bytes = harness.count(StoreCounters::kBytesFilled);
  round.skipped_bytes = harness.count(StoreCounters::kCacheSkippedBytes);
  round.written_bytes = harness.count(StoreCounters::kCacheWrittenBytes);
  round.read_from_disk_bytes = harness.count(StoreCounters::kCacheReadBytes);
  round.corrupt_bytes = harness.count(StoreCounters::kCacheCorruptBytes);
  round.warnings = harness.warnings();
  return round;
}

}  // namespace

TEST("with memory, room and a good source each byte is asked for once over all rounds") {
  const StoreConfig config{
      .size_bytes = (16 << 20) + 512, .memory_bytes = 256 << 20, .maximum_window_bytes = 0};
  const CacheEntry entry(config);
  uint64_t filled = 0;
  uint64_t skipped = 0;
  for (int at = 0; at < 4; ++at) {
    const Round round = run_round(config, entry, CacheEntry::kNoLimit,
                                  {.seed = new_seed(), .sleep_percent = 5}, 150);
    CHECK(round.outcome.served == 150 && round.corrupt_bytes == 0 && round.warnings == 0);
    filled += round.filled_bytes;
    skipped += round.skipped_bytes;
    const CacheEntry::Verified verified = entry.verify();
    CHECK(verified.dropped_bytes == 0 && verified.kept_bytes == filled - skipped);
    CHECK(filled <= config.size_bytes + skipped);
  }
}

TEST("a background fill beside random reads brings each byte once, and all of them in the end") {
  const StoreConfig config{.size_bytes = (16 << 20) + 512,
                           .memory_bytes = 8 << 20,
                           .chunk_bytes = 64 << 10,
                           .maximum_window_bytes = 1 << 20,
                           .prefetches = true};
  const CacheEntry entry(config);
  uint64_t filled = 0;
  uint64_t skipped = 0;
  for (int at = 0; at < 4; ++at) {
    const Round round = run_round(config, entry, CacheEntry::kNoLimit,
                                  {.seed = new_seed(), .sleep_percent = 20}, 100);
    CHECK(round.outcome.served == 100 && round.corrupt_bytes == 0 && round.warnings == 0);
    CHECK(entry.verify().dropped_bytes == 0);
    filled += round.filled_bytes;
    skipped += round.skipped_bytes;
  }
  {
    StoreHarness harness(config, entry.parts());
    RandomSource source(config, harness, {.seed = new_seed(), .fills_all_slots = false});
    while (harness.count(StoreCounters::kCachedBytes) < config.size_bytes)
      harness.turn();
    harness.end();
    source.join();
    filled += harness.count(StoreCounters::kBytesFilled);
    skipped += harness.count(StoreCounters::kCacheSkippedBytes);
  }
  CHECK(entry.verify().kept_bytes == config.size_bytes);
  // What a round's end cut off was brought in part and not written.
  CHECK(filled <= config.size_bytes + skipped + 4 * 256 * config.chunk_bytes);
}

TEST("rounds with little memory and a low limit are right, and leave an entry that is") {
  for (uint32_t chunk_bytes : {64U << 10, 256U << 10}) {
    const StoreConfig config = tiny(chunk_bytes);
    const CacheEntry entry(config);
    uint64_t from_disk = 0;
    for (uint64_t limit : {3, 7, 2, 12, 1}) {
      const uint64_t limit_bytes = limit * chunk_bytes + 5 * config.unit_bytes();
      const Round round =
          run_round(config, entry, limit_bytes,
                    {.seed = new_seed(), .error_percent = 1, .sleep_percent = 3}, 300);
      CHECK(round.outcome.served > 0 && round.corrupt_bytes == 0 && round.warnings == 0);
      CHECK(entry.verify().dropped_bytes == 0);
      from_disk += round.read_from_disk_bytes;
    }
    CHECK(from_disk > 0);
  }
}

// The entry is full of halves of chunks, so that a read often has one part on disk and makes room
// for the other.
TEST("an entry that is full gives up chunks while they are read and written") {
  const StoreConfig config{.size_bytes = (48 << 20) + 1536, .memory_bytes = 16 << 20};
  const CacheEntry entry(config);
  const uint64_t limit_bytes = 18 << 20;
  for (uint32_t chunk = 0; chunk < 36; ++chunk)
    unbd::test::keep_units(*entry.open(), chunk, 0xffffffff);
  for (int at = 0; at < 2; ++at) {
    const uint64_t before = entry.open()->cached_bytes();
    const Round round = run_round(config, entry, limit_bytes, {.seed = new_seed()}, 200);
    CHECK(round.outcome.served == 200 && round.corrupt_bytes == 0 && round.warnings == 0);
    CHECK(entry.data_bytes_on_disk() <= limit_bytes + (256 << 10));
    const CacheEntry::Verified verified = entry.verify();
    CHECK(verified.dropped_bytes == 0 && before + round.written_bytes > verified.kept_bytes);
  }
}

TEST("an entry that is far too large is made smaller while it is read and written") {
  const StoreConfig config{
      .size_bytes = (48 << 20) + 1536, .memory_bytes = 4 << 20, .chunk_bytes = 64 << 10};
  const CacheEntry entry(config);
  const uint64_t limit_bytes = 6 << 20;
  {
    const std::shared_ptr<unbd::store::CacheFile> file = entry.open();
    for (uint32_t chunk = 0; chunk < 768; ++chunk)
      unbd::test::keep_units(*file, chunk, chunk % 3 == 0 ? 0xff : 0xffff);
  }
  {
    StoreHarness harness(config, entry.parts(limit_bytes));
    RandomSource source(config, harness, {.seed = new_seed(), .fills_all_slots = false});
    CHECK(harness.count(StoreCounters::kCachedBytes) > limit_bytes);
    const Outcome outcome = read_at_random(config, harness, new_seed(), 400);
    while (harness.count(StoreCounters::kCachedBytes) > limit_bytes)
      harness.turn();
    harness.end();
    source.join();
    CHECK(outcome.served == 400 && harness.warnings() == 0);
    CHECK(harness.count(StoreCounters::kCacheCorruptBytes) == 0);
  }
  CHECK(entry.data_bytes_on_disk() <= limit_bytes + (256 << 10));
  const CacheEntry::Verified verified = entry.verify();
  CHECK(verified.dropped_bytes == 0 && verified.kept_bytes <= limit_bytes);
}

TEST("damage to the files between rounds is never served, and not kept") {
  const StoreConfig config = tiny(64 << 10);
  const CacheEntry entry(config);
  std::mt19937 random(new_seed());
  uint64_t corrupt = 0;
  for (int at = 0; at < 6; ++at) {
    const uint64_t limit_bytes = at % 2 == 0 ? CacheEntry::kNoLimit : 40 * config.chunk_bytes;
    const Round round = run_round(
        config, entry, limit_bytes,
        {.seed = new_seed(), .error_percent = at % 3 == 0 ? 2U : 0U, .sleep_percent = 2}, 200);
    CHECK(round.outcome.served > 0 && round.warnings == 0);
    corrupt += round.corrupt_bytes;
    // Damage that nobody has read is still there, and no more than that.
    CHECK(entry.verify().dropped_bytes <= 12 * config.unit_bytes());
    for (int damages = 0; damages < 12; ++damages)
      flip(entry.data(), random() % config.size_bytes, static_cast<std::byte>(1 << random() % 8));
    if (at % 3 == 2) flip(entry.map(), 4096 + random() % (25 * 512));
  }
  CHECK(corrupt > 0);
}

TEST_MAIN()
