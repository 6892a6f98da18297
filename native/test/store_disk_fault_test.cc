// Owns: the claims about a store whose cache on disk fails or is full, and about its limit: reads
// go on, and the cache never promises what it has lost.
// Runs on the test's thread, as the queue and as the source.
// Must not: depend on time, or need a disk that is really full: another file takes the place of the
// cache's own.
#include <unistd.h>

#include <random>

#include "base/fd.h"
#include "test/check.h"
#include "test/store_session.h"

using namespace unbd;
using unbd::store::StoreConfig;
using unbd::store::StoreCounters;
using unbd::test::CacheEntry;
using unbd::test::kChunk;
using unbd::test::kKib;
using unbd::test::narrow_store;
using unbd::test::small_store;
using unbd::test::StoreSession;

namespace {

// What the disk may take beyond what is cached: chunks that are being given up, and the blocks that
// the file system needs itself.
constexpr uint64_t kMarginBytes = 33 * kChunk;
constexpr uint64_t kOverheadBytes = 64 * kKib;

// The disk has all of it, and has shown that once; memory has the last four chunks.
struct AllChecked {
  AllChecked() { UN_ASSERT(session.read_and_save_all() && session.read_and_save_all()); }

  const StoreConfig config = narrow_store();
  const CacheEntry entry{config};
  StoreSession session{config, entry};
};

}  // namespace

TEST("a data file that is cut off, or cannot be read, is as one that has nothing") {
  const StoreConfig config = small_store();
  const CacheEntry entry(config);
  for (int way = 0; way < 2; ++way) {
    {
      StoreSession session(config, entry);
      CHECK(session.read_all());
    }
    CHECK(entry.verify().kept_bytes == config.size_bytes);
    StoreSession session(config, entry);
    uint64_t lost = config.size_bytes;
    if (way == 0) {
      CHECK(::truncate(entry.data().c_str(), 6 * kKib) == 0);
      lost -= 4 * kKib;
    } else {
      session.replace(session.cache().file->data_fd(), "/dev/null", O_WRONLY);
    }
    // Not to be made long again by what is written.
    session.cache().may_write->store(false);
    CHECK(session.read_all() && session.source().asked_bytes() == lost);
    CHECK(session.count(StoreCounters::kCacheCorruptBytes) == lost);
    CHECK(session.count(StoreCounters::kCachedBytes) == config.size_bytes - lost);
  }
}

TEST("what was right once and is cut off since is fetched again") {
  AllChecked all;
  StoreSession& session = all.session;
  CHECK(session.source().asked_bytes() == all.config.size_bytes);
  CHECK(::truncate(all.entry.data().c_str(), 6 * kKib) == 0);
  session.cache().may_write->store(false);
  CHECK(session.read(0, 4 * kKib) && session.source().asked_bytes() == all.config.size_bytes);
  CHECK(session.read(4 * kKib, 8 * kKib));
  CHECK(session.count(StoreCounters::kCacheCorruptBytes) == 8 * kKib);
  CHECK(session.source().asked_bytes() == all.config.size_bytes + 8 * kKib);
}

TEST("a disk that gives no parts of units is read by whole ones") {
  AllChecked all;
  StoreSession& session = all.session;
  const uint64_t before = session.count(StoreCounters::kCacheReadBytes);
  const int data_fd = session.cache().file->data_fd();
  const Fd kept(::dup(data_fd));
  // What has nothing to read says EINVAL.
  session.replace(data_fd, "/proc/self/ns/user", O_RDONLY);
  unbd::test::StoreHarness& harness = session.harness();
  harness.read(0, 4 * kKib, 4 * kKib);
  harness.turn();
  CHECK(!harness.done(0));
  CHECK(::dup3(kept.get(), data_fd, O_CLOEXEC) == data_fd);
  while (!harness.done(0))
    harness.turn();
  CHECK(harness.result(0) == 4 * kKib && session.read(0, 2 * kKib));
  CHECK(session.source().asked_bytes() == all.config.size_bytes);
  CHECK(session.count(StoreCounters::kCacheCorruptBytes) == 0);
  CHECK(session.count(StoreCounters::kCacheReadBytes) == before + 8 * kKib);
}

TEST("nothing is read into a request after it was failed, nor after the end") {
  AllChecked all;
  StoreSession& session = all.session;
  unbd::test::StoreHarness& harness = session.harness();
  for (uint16_t tag = 0; tag < 8; ++tag)
    harness.read(tag, tag * 4 * kKib, 4 * kKib);
  harness.adapter().fail_all(EIO);
  for (uint16_t tag = 0; tag < 8; ++tag)
    CHECK(!harness.done(tag));
  harness.end();
  for (uint16_t tag = 0; tag < 8; ++tag)
    CHECK(harness.done(tag) && harness.result(tag) == -EIO);
}

TEST("a full disk is told of once, and what it does not take is counted") {
  const StoreConfig config = small_store();
  const CacheEntry entry(config);
  {
    StoreSession session(config, entry);
    CHECK(session.read(0, kChunk));
    session.settle();
    session.replace(session.cache().file->data_fd(), "/dev/full", O_RDWR);
    CHECK(session.read_all());
    session.settle();
    CHECK(session.harness().warnings() == 1 && !session.cache().may_write->load());
    CHECK(session.count(StoreCounters::kCacheSkippedBytes) == config.size_bytes - kChunk);
    CHECK(session.count(StoreCounters::kCachedBytes) == kChunk);
    // It is tried again, and still full.
    session.cache().may_write->store(true);
  }
  StoreSession session(config, entry);
  CHECK(session.read_all());
}

TEST("a full disk takes again what fits, once that is allowed") {
  const StoreConfig config = small_store();
  const CacheEntry entry(config);
  StoreSession session(config, entry);
  const int data_fd = session.cache().file->data_fd();
  session.replace(data_fd, "/dev/full", O_RDWR);
  CHECK(session.read(0, kChunk));
  session.settle();
  session.replace(data_fd, entry.data().c_str(), O_RDWR);
  CHECK(session.read(kChunk, kChunk));
  CHECK(session.count(StoreCounters::kCacheWrittenBytes) == 0);
  session.cache().may_write->store(true);
  CHECK(session.read(2 * kChunk, kChunk));
  session.harness().end();
  CHECK(session.count(StoreCounters::kCacheWrittenBytes) == kChunk);
  CHECK(session.cache().file->record(2).present == 0xffff);
  CHECK(session.cache().file->cached_bytes() == kChunk && session.harness().warnings() == 1);
}

TEST("any other error of a write ends the writing for good") {
  const StoreConfig config = small_store();
  const CacheEntry entry(config);
  StoreSession session(config, entry);
  session.replace(session.cache().file->data_fd(), entry.data().c_str(), O_RDONLY);
  CHECK(session.read(0, 4 * kChunk));
  session.settle();
  session.cache().may_write->store(true);
  session.replace(session.cache().file->data_fd(), entry.data().c_str(), O_RDWR);
  CHECK(session.read_all());
  session.harness().end();
  CHECK(session.harness().warnings() == 1);
  CHECK(session.count(StoreCounters::kCacheSkippedBytes) == config.size_bytes);
  CHECK(session.count(StoreCounters::kCacheWrittenBytes) == 0);
  CHECK(session.count(StoreCounters::kCachedBytes) == 0);
}

TEST("what could not be synced is promised to nobody") {
  const StoreConfig config = small_store();
  const CacheEntry entry(config);
  {
    StoreSession session(config, entry);
    CHECK(session.read(0, kChunk));
    session.settle();
  }
  {
    StoreSession session(config, entry);
    // Takes all that is written, and does not know of syncing.
    session.replace(session.cache().file->data_fd(), "/dev/null", O_RDWR);
    CHECK(session.read(kChunk, 8 * kChunk));
    session.settle();
    CHECK(session.count(StoreCounters::kCachedBytes) == 9 * kChunk);
    session.harness().end();
    CHECK(session.harness().warnings() == 1);
    CHECK(session.count(StoreCounters::kCachedBytes) == kChunk);
  }
  CHECK(entry.verify().kept_bytes == kChunk);
}

TEST("what the map does not take is promised to nobody, and told") {
  const StoreConfig config = small_store();
  const CacheEntry entry(config);
  {
    StoreSession session(config, entry);
    session.replace(session.cache().file->map_fd(), "/dev/full", O_RDWR);
    CHECK(session.read(kChunk, 8 * kChunk));
    session.harness().end();
    CHECK(session.harness().warnings() == 1);
  }
  const CacheEntry::Verified verified = entry.verify();
  CHECK(verified.kept_bytes == 0 && verified.dropped_bytes == 0);
}

TEST("what is cached stays within the limit, and so does what the disk gives for it") {
  const unsigned seed = 11;
  std::mt19937 random(seed);
  StoreConfig config = small_store();
  config.size_bytes = 160 * kChunk + 1536;
  config.memory_bytes = 16 * kChunk;
  const CacheEntry entry(config);
  constexpr uint64_t kLimit = 5 * kChunk + 8 * kKib;
  for (int round = 0; round < 4; ++round) {
    {
      StoreSession session(config, entry, kLimit);
      for (int at = 0; at < 120; ++at) {
        const uint64_t length = (random() % 256 + 1) * 512;
        CHECK(session.read(random() % ((config.size_bytes - length) / 512) * 512, length));
        CHECK(session.count(StoreCounters::kCachedBytes) <= kLimit);
        if (at % 10 != 0) continue;
        CHECK(entry.data_bytes_on_disk() <= kLimit + kMarginBytes + kOverheadBytes);
      }
      session.settle();
      CHECK(session.count(StoreCounters::kCacheWrittenBytes) > 0);
      CHECK(session.harness().warnings() == 0);
    }
    // Of what was evicted nothing is left, neither in the map nor on the disk.
    CHECK(entry.data_bytes_on_disk() <= kLimit + kOverheadBytes);
    const CacheEntry::Verified verified = entry.verify();
    CHECK(verified.dropped_bytes == 0 && verified.kept_bytes <= kLimit);
    CHECK(verified.kept_bytes > 0);
  }
}

TEST("a data file that is cut off, and long again, gives nobody its holes") {
  StoreConfig config = small_store();
  config.memory_bytes = 4 * kChunk;
  const CacheEntry entry(config);
  {
    StoreSession session(config, entry);
    CHECK(session.read(0, 4 * kChunk));
    session.settle();
  }
  StoreSession session(config, entry);
  CHECK(session.read(0, 4 * kChunk));
  CHECK(::truncate(entry.data().c_str(), 0) == 0);
  CHECK(session.read(23 * kChunk, kChunk));
  session.settle();
  for (uint64_t chunk = 8; chunk < 20; ++chunk)
    CHECK(session.read(chunk * kChunk, kChunk));
  CHECK(session.read(0, 4 * kChunk));
}

TEST("what the map does not know takes no room after the next open") {
  const StoreConfig config = small_store();
  const CacheEntry entry(config);
  {
    StoreSession session(config, entry);
    CHECK(session.read(0, 4 * kChunk));
    session.settle();
  }
  for (uint32_t chunk = 0; chunk < 3; ++chunk)
    unbd::test::flip(entry.map(), entry.record_offset(chunk));
  {
    StoreSession session(config, entry);
  }
  CHECK(entry.data_bytes_on_disk() <= kChunk + kOverheadBytes);
  CHECK(entry.verify().dropped_bytes == 0);
}

TEST("a chunk whose rest is written does not make room for that by going itself") {
  const StoreConfig config = small_store();
  for (int round = 0; round < 5; ++round) {
    const CacheEntry entry(config);
    {
      StoreSession session(config, entry);
      CHECK(session.read(0, 32 * kKib) && session.read(kChunk, 2 * kChunk));
    }
    {
      // The oldest chunk is the first one, and there is room for no more.
      StoreSession session(config, entry, 2 * kChunk + 32 * kKib);
      CHECK(session.read(32 * kKib, 32 * kKib));
      session.settle();
    }
    CHECK(entry.verify().dropped_bytes == 0);
    CHECK(entry.data_bytes_on_disk() <= 2 * kChunk + 32 * kKib + kOverheadBytes);
    StoreSession session(config, entry);
    CHECK(session.read(0, 3 * kChunk));
    CHECK(session.count(StoreCounters::kCacheCorruptBytes) == 0);
  }
}

TEST("a lower limit than before is kept from the first write on") {
  const StoreConfig config = small_store();
  const CacheEntry entry(config);
  {
    StoreSession session(config, entry);
    CHECK(session.read(0, 20 * kChunk));
  }
  {
    StoreSession session(config, entry, 4 * kChunk);
    CHECK(session.read(21 * kChunk, kChunk));
    session.settle();
    CHECK(session.count(StoreCounters::kCachedBytes) <= 4 * kChunk);
  }
  CHECK(entry.data_bytes_on_disk() <= 4 * kChunk + kOverheadBytes);
  CHECK(entry.verify().dropped_bytes == 0);
  StoreSession session(config, entry);
  // The least recently used go: the first ones, in a new session.
  CHECK(session.read(17 * kChunk, 3 * kChunk) && session.source().asked_bytes() == 0);
}

TEST("what is larger than the limit is not cached, and evicts nothing") {
  const StoreConfig config = small_store();
  const CacheEntry entry(config);
  StoreSession session(config, entry, 32 * kKib);
  CHECK(session.read(kChunk, 16 * kKib));
  session.settle();
  CHECK(session.read(4 * kChunk, kChunk));
  session.settle();
  CHECK(session.count(StoreCounters::kCachedBytes) == 16 * kKib);
  CHECK(session.count(StoreCounters::kCacheSkippedBytes) == kChunk);
}

TEST_MAIN()
