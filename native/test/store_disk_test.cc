// Owns: the claims about a store with a cache on disk: what is saved, read back and not believed,
// and that it stops when all is durable.
// Runs on the test's thread, as the queue and as the source.
// Must not: depend on time; what a bad disk does stands in store_disk_fault_test.cc, what is random
// in store_disk_model_test.cc.
#include "test/allocations.h"
#include "test/check.h"
#include "test/store_session.h"

using namespace unbd;
using unbd::store::StoreConfig;
using unbd::store::StoreCounters;
using unbd::test::CacheEntry;
using unbd::test::flip;
using unbd::test::kKib;
using unbd::test::narrow_store;
using unbd::test::small_store;
using unbd::test::StoreSession;

namespace {

constexpr uint64_t kMib = 1024 * 1024;

}  // namespace

TEST("what the source has brought is durable at the end, and a successor reads it from disk") {
  for (uint32_t chunk_bytes : {64U << 10, 1U << 20, 16U << 20}) {
    const StoreConfig config{.size_bytes = 2 * uint64_t{chunk_bytes} + 1536,
                             .memory_bytes = 16 * uint64_t{chunk_bytes},
                             .chunk_bytes = chunk_bytes,
                             .maximum_window_bytes = 0};
    const CacheEntry entry(config);
    {
      StoreSession session(config, entry);
      CHECK(session.read_and_save_all());
      CHECK(session.source().asked_bytes() == config.size_bytes);
      CHECK(session.count(StoreCounters::kCacheWrittenBytes) == config.size_bytes);
      CHECK(session.count(StoreCounters::kCachedBytes) == config.size_bytes);
      session.harness().end();
      CHECK(session.cache().file->cached_bytes() == config.size_bytes);
    }
    CHECK(entry.verify().kept_bytes == config.size_bytes);
    for (int round = 0; round < 2; ++round) {
      StoreSession session(config, entry);
      CHECK(session.count(StoreCounters::kCachedBytes) == config.size_bytes);
      CHECK(session.read_all() && session.source().asked_bytes() == 0);
      CHECK(session.count(StoreCounters::kCacheReadBytes) == config.size_bytes);
      CHECK(session.count(StoreCounters::kFills) == 0 && session.harness().warnings() == 0);
      CHECK(session.count(StoreCounters::kCacheCorruptBytes) == 0);
    }
  }
}

TEST("what has left the memory is read from disk in the same session") {
  const StoreConfig config = narrow_store();
  const CacheEntry entry(config);
  StoreSession session(config, entry);
  for (int round = 0; round < 3; ++round)
    CHECK(session.read_and_save_all());
  CHECK(session.source().asked_bytes() == config.size_bytes);
  CHECK(session.count(StoreCounters::kCacheSkippedBytes) == 0);
  CHECK(session.count(StoreCounters::kCacheReadBytes) > 0);
}

TEST("what had its checksum once is read as it is wanted, not by whole units") {
  const StoreConfig config{.size_bytes = 8 * kMib,
                           .memory_bytes = 4 * kMib,
                           .chunk_bytes = kMib,
                           .maximum_window_bytes = 0};
  const CacheEntry entry(config);
  StoreSession session(config, entry);
  CHECK(session.read_and_save_all());
  CHECK(session.read_and_save_all());
  const auto read_bytes = [&] { return session.count(StoreCounters::kCacheReadBytes); };
  const uint64_t before = read_bytes();
  CHECK(before >= 4 * kMib);
  // The last four chunks are in memory, and stay there whatever is read of the others.
  CHECK(session.read(kMib + 8 * kKib, 4 * kKib) && session.read(2 * kMib, 64 * kKib));
  CHECK(read_bytes() == before + 68 * kKib);
  // Not aligned, or across a chunk's end: by the way through the memory.
  CHECK(session.read(3 * kMib + 512, 1024) && read_bytes() == before + 84 * kKib);
  CHECK(session.read(kMib - 4 * kKib, 8 * kKib) && read_bytes() == before + 116 * kKib);
  CHECK(session.read(7 * kMib, kMib) && read_bytes() == before + 116 * kKib);
  CHECK(session.source().asked_bytes() == config.size_bytes);
}

TEST("a sequence of what had its checksum is not read ahead into memory") {
  StoreConfig config = narrow_store();
  config.maximum_window_bytes = 64 * kKib;
  const CacheEntry entry(config);
  StoreSession session(config, entry);
  for (int round = 0; round < 2; ++round)
    CHECK(session.read_and_save_all());
  for (uint64_t at = 0; at < 16 * 64 * kKib; at += 16 * kKib)
    CHECK(session.read(at, 16 * kKib));
  // What was in memory still is.
  const uint64_t before = session.count(StoreCounters::kCacheReadBytes);
  CHECK(session.read(23 * 64 * kKib, 64 * kKib));
  CHECK(session.count(StoreCounters::kCacheReadBytes) == before);
  CHECK(session.source().asked_bytes() == config.size_bytes);
}

TEST("one read takes from disk what is there, and asks the source for nothing else") {
  const StoreConfig config = small_store();
  const CacheEntry entry(config);
  {
    StoreSession session(config, entry);
    for (uint64_t unit : {1, 2, 5, 15})
      CHECK(session.read(64 * kKib + unit * 4 * kKib, 4 * kKib));
  }
  StoreSession session(config, entry);
  session.harness().read(0, 64 * kKib, 64 * kKib);
  const std::vector<Fill> fills = session.source().take();
  CHECK(fills.size() == 3);
  const uint64_t units[][2] = {{0, 1}, {3, 2}, {6, 9}};
  for (size_t at = 0; at < 3; ++at) {
    CHECK(fills[at].offset_bytes == 64 * kKib + units[at][0] * 4 * kKib);
    CHECK(fills[at].length_bytes == units[at][1] * 4 * kKib);
    session.source().report(fills[at], fills[at].length_bytes);
  }
  session.source().serve();
  CHECK(session.harness().result(0) == 64 * kKib);
  CHECK(session.count(StoreCounters::kCacheReadBytes) == 16 * kKib);
}

TEST("of a fill that fails, what landed in whole units is saved") {
  const StoreConfig config = small_store();
  const CacheEntry entry(config);
  {
    StoreSession session(config, entry);
    session.harness().read(0, 4 * kKib, 32 * kKib);
    const Fill fill = session.source().take()[0];
    session.source().report(fill, 4 * kKib);
    session.harness().turn();
    session.source().report(fill, 8 * kKib + 512, EIO);
    session.source().serve();
    CHECK(session.harness().result(0) == -EIO);
  }
  CHECK(entry.open()->record(0).present == 0x6);
  CHECK(entry.verify().dropped_bytes == 0);
  StoreSession session(config, entry);
  CHECK(session.read(4 * kKib, 8 * kKib) && session.source().asked_bytes() == 0);
  CHECK(session.read(0, 64 * kKib) && session.source().asked_bytes() == 56 * kKib);
}

TEST("a unit that is damaged on disk is fetched again, and right there afterwards") {
  const StoreConfig config = small_store();
  const CacheEntry entry(config);
  {
    StoreSession session(config, entry);
    CHECK(session.read_all());
  }
  flip(entry.data(), 3 * 64 * kKib + 5 * 4 * kKib + 100);
  flip(entry.data(), 7 * 64 * kKib);
  flip(entry.data(), 24 * 64 * kKib + 1535);
  {
    StoreSession session(config, entry);
    CHECK(session.read(3 * 64 * kKib, 20 * kKib) && session.source().asked_bytes() == 0);
    CHECK(session.read(2 * 64 * kKib, 192 * kKib) && session.source().asked_bytes() == 4 * kKib);
    CHECK(session.count(StoreCounters::kCacheCorruptBytes) == 4 * kKib);
    CHECK(session.read_all() && session.source().asked_bytes() == 8 * kKib + 1536);
    CHECK(session.count(StoreCounters::kCacheCorruptBytes) == 8 * kKib + 1536);
    session.settle();
    CHECK(session.count(StoreCounters::kCacheWrittenBytes) == 8 * kKib + 1536);
    CHECK(session.count(StoreCounters::kCachedBytes) == config.size_bytes);
    CHECK(session.harness().warnings() == 0);
  }
  CHECK(entry.verify().dropped_bytes == 0 && entry.verify().kept_bytes == config.size_bytes);
  StoreSession session(config, entry);
  CHECK(session.read_all() && session.source().asked_bytes() == 0);
  CHECK(session.count(StoreCounters::kCacheCorruptBytes) == 0);
}

TEST("a unit that was damaged, and is not brought again, is not promised to a successor") {
  const StoreConfig config = small_store();
  const CacheEntry entry(config);
  {
    StoreSession session(config, entry);
    CHECK(session.read(0, 64 * kKib));
  }
  flip(entry.data(), 9 * 4 * kKib);
  {
    StoreSession session(config, entry);
    session.harness().read(0, 0, 64 * kKib);
    std::vector<Fill> fills;
    while ((fills = session.source().take()).empty())
      session.harness().turn();
    CHECK(fills.size() == 1 && fills[0].offset_bytes == 36 * kKib);
    session.source().report(fills[0], 0, EIO);
    session.source().serve();
    CHECK(session.harness().result(0) == -EIO);
  }
  CHECK(entry.open()->record(0).present == 0xfdff);
}

TEST("who may not write does not, and reads what is there") {
  const StoreConfig config = small_store();
  const CacheEntry entry(config);
  {
    StoreSession session(config, entry);
    CHECK(session.read(0, 128 * kKib));
    session.settle();
    session.cache().may_write->store(false);
    CHECK(session.read_all());
    CHECK(session.count(StoreCounters::kCacheWrittenBytes) == 128 * kKib);
    CHECK(session.count(StoreCounters::kCacheSkippedBytes) == config.size_bytes - 128 * kKib);
    CHECK(session.harness().warnings() == 0);
  }
  CHECK(entry.verify().kept_bytes == 128 * kKib);
  StoreSession session(config, entry);
  session.cache().may_write->store(false);
  CHECK(session.read_all() && session.source().asked_bytes() == config.size_bytes - 128 * kKib);
  session.cache().may_write->store(true);
}

// As a crash leaves them: the map is no newer than the data.
TEST("a copy that is made while the store writes promises nothing that it does not have") {
  const StoreConfig config{
      .size_bytes = 40 * kMib + 1536, .memory_bytes = 96 * kMib, .maximum_window_bytes = 0};
  const CacheEntry entry(config);
  const CacheEntry copy(config);
  StoreSession session(config, entry);
  const auto copy_and_verify = [&] {
    const unbd::test::Bytes map = unbd::test::read_file(entry.map());
    unbd::test::write_file(copy.data(), unbd::test::read_file(entry.data()));
    unbd::test::write_file(copy.map(), map);
    return copy.verify();
  };
  uint64_t kept = 0;
  for (uint64_t at = 0; at < 40; ++at) {
    CHECK(session.read(at * kMib, kMib));
    if (at % 8 != 7) continue;
    const CacheEntry::Verified verified = copy_and_verify();
    CHECK(verified.dropped_bytes == 0 && verified.kept_bytes >= kept);
    kept = verified.kept_bytes;
  }
  // More was written than what is synced together, so that something becomes durable before the
  // end.
  while (kept == 0) {
    session.harness().turn();
    const CacheEntry::Verified verified = copy_and_verify();
    CHECK(verified.dropped_bytes == 0);
    kept = verified.kept_bytes;
  }
}

TEST("no read, write or eviction on disk allocates") {
  const StoreConfig config = narrow_store();
  const CacheEntry entry(config);
  {
    StoreSession session(small_store(), entry);
    CHECK(session.read(0, 12 * 64 * kKib));
  }
  StoreSession session(config, entry, 12 * 64 * kKib);
  const unsigned before = unbd::test::allocations;
  for (uint64_t round = 0; round < 30; ++round) {
    for (uint16_t tag = 0; tag < 16; ++tag)
      session.harness().read(tag, (round * 16 + tag) * 36 % 1408 * kKib, 128 * kKib);
    session.source().serve();
    session.settle();
  }
  session.harness().adapter().stop();
  while (!session.harness().adapter().stopped())
    session.harness().turn();
  CHECK(unbd::test::allocations == before);
  // It was full: what was written took the place of something.
  CHECK(session.count(StoreCounters::kCacheWrittenBytes) > 0);
  CHECK(session.count(StoreCounters::kCacheReadBytes) > 0);
}

TEST_MAIN()
