// Owns: the claims about a store whose cache on disk fails or is full: reads go on, and the cache
// never promises what it has lost.
// Runs on the test's thread, as the queue and as the source.
// Must not: depend on time, or need a disk that is really full: another file takes the place of the
// cache's own.
#include <unistd.h>

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

TEST_MAIN()
