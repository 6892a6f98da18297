// Owns: the claims about what a store's cache on disk takes: it stays within its limit, also within
// one that is lower than it was, and gives back what it has given up.
// Runs on the test's thread, as the queue and as the source.
// Must not: depend on time.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <random>

#include "base/fd.h"
#include "test/allocations.h"
#include "test/check.h"
#include "test/store_session.h"

using namespace unbd;
using unbd::store::DiskCache;
using unbd::store::StoreConfig;
using unbd::store::StoreCounters;
using unbd::test::CacheEntry;
using unbd::test::kChunk;
using unbd::test::kKib;
using unbd::test::small_store;
using unbd::test::StoreHarness;
using unbd::test::StoreSession;

namespace {

// What the disk may take beyond what is cached: chunks that are being given up, and the blocks that
// the file system needs itself.
constexpr uint64_t kMarginBytes = 33 * kChunk;
constexpr uint64_t kOverheadBytes = 64 * kKib;
constexpr uint64_t kMostAtOnce = DiskCache::kMaxEvictions;

// More than can be given up at a time, several times over; memory for a tenth.
StoreConfig large_store() {
  StoreConfig config = small_store();
  config.size_bytes = 160 * kChunk + 1536;
  config.memory_bytes = 16 * kChunk;
  return config;
}

// An entry that has all, from a time without a limit.
struct FullEntry {
  explicit FullEntry(const StoreConfig& of) : config(of) {
    StoreSession session(config, entry);
    UN_ASSERT(session.read_and_save_all());
  }

  const StoreConfig config;
  const CacheEntry entry{config};
};

uint64_t cached_bytes(const StoreSession& session) {
  return session.count(StoreCounters::kCachedBytes);
}

}  // namespace

TEST("what is cached stays within the limit, and so does what the disk gives for it") {
  const unsigned seed = 11;
  std::mt19937 random(seed);
  const StoreConfig config = large_store();
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

TEST("a lower limit than before is kept from the start on, without a write") {
  const FullEntry full(small_store());
  const CacheEntry& entry = full.entry;
  const uint64_t size_bytes = full.config.size_bytes;
  const uint64_t limit_bytes = size_bytes / 4;
  // The least recently used go: the first ones, in a new session.
  constexpr uint64_t kFirstKept = 19;
  const uint64_t kept_bytes = size_bytes - kFirstKept * kChunk;
  {
    StoreSession session(full.config, entry, limit_bytes);
    CHECK(kept_bytes <= limit_bytes && cached_bytes(session) == kept_bytes);
    CHECK(session.read(kFirstKept * kChunk, kept_bytes) && session.source().asked_bytes() == 0);
    CHECK(session.count(StoreCounters::kCacheReadBytes) == kept_bytes);
    session.harness().end();
    CHECK(session.cache().file->cached_bytes() == kept_bytes && session.harness().warnings() == 0);
  }
  CHECK(entry.data_bytes_on_disk() <= limit_bytes + kOverheadBytes);
  const CacheEntry::Verified verified = entry.verify();
  CHECK(verified.dropped_bytes == 0 && verified.kept_bytes == kept_bytes);
  {
    StoreSession session(full.config, entry, limit_bytes);
    CHECK(session.read(0, kChunk) && session.source().asked_bytes() == kChunk);
    session.settle();
    CHECK(session.count(StoreCounters::kCacheWrittenBytes) == kChunk);
    CHECK(cached_bytes(session) <= limit_bytes);
  }
  StoreSession session(full.config, entry);
  const uint64_t missing_bytes = size_bytes - cached_bytes(session);
  CHECK(session.read_all() && session.source().asked_bytes() == missing_bytes);
  CHECK(session.count(StoreCounters::kCacheCorruptBytes) == 0);
}

TEST("an entry that is far too large gives up a few chunks at a time, while it is read") {
  const FullEntry full(large_store());
  const uint64_t size_bytes = full.config.size_bytes;
  const uint64_t limit_bytes = size_bytes / 4;
  {
    StoreSession session(full.config, full.entry, limit_bytes);
    StoreHarness& harness = session.harness();
    const unsigned before = unbd::test::allocations;
    CHECK(cached_bytes(session) == size_bytes - kMostAtOnce * kChunk);
    // As on a disk that is nearly full, where room is wanted most.
    session.cache().may_write->store(false);
    // The oldest that are left: being read, they are it no more.
    for (uint16_t tag = 0; tag < 8; ++tag)
      harness.read(tag, (kMostAtOnce + tag) * kChunk, kChunk);
    session.source().serve();
    while (cached_bytes(session) > limit_bytes)
      harness.turn();
    CHECK(cached_bytes(session) > limit_bytes - kChunk);
    harness.adapter().stop();
    while (!harness.adapter().stopped())
      harness.turn();
    CHECK(unbd::test::allocations == before);
    harness.end();
    CHECK(session.source().asked_bytes() == 0 && harness.warnings() == 0);
    CHECK(session.cache().file->cached_bytes() == cached_bytes(session));
    for (uint32_t at = 0; at < 8; ++at)
      CHECK(session.cache().file->record(kMostAtOnce + at).present == 0xffff);
  }
  CHECK(full.entry.data_bytes_on_disk() <= limit_bytes + kOverheadBytes);
  const CacheEntry::Verified verified = full.entry.verify();
  CHECK(verified.dropped_bytes == 0 && verified.kept_bytes <= limit_bytes);
  StoreSession session(full.config, full.entry);
  CHECK(session.read_and_save_all());
  CHECK(session.source().asked_bytes() == size_bytes - verified.kept_bytes);
  CHECK(session.count(StoreCounters::kCacheCorruptBytes) == 0);
}

TEST("an end does not wait until an entry is small enough: successors go on with that") {
  const FullEntry full(large_store());
  const uint64_t limit_bytes = full.config.size_bytes / 4;
  uint64_t before = full.config.size_bytes;
  for (int round = 0; round < 3; ++round) {
    StoreSession session(full.config, full.entry, limit_bytes);
    session.harness().end();
    CHECK(session.cache().file->cached_bytes() == before - kMostAtOnce * kChunk);
    before = session.cache().file->cached_bytes();
  }
  {
    StoreSession session(full.config, full.entry, limit_bytes);
  }
  CHECK(full.entry.data_bytes_on_disk() <= limit_bytes + kOverheadBytes);
  const CacheEntry::Verified verified = full.entry.verify();
  CHECK(verified.dropped_bytes == 0 && verified.kept_bytes <= limit_bytes);
  CHECK(verified.kept_bytes > limit_bytes - kChunk);
}

TEST("a chunk that is too much and being read goes when it has been read") {
  StoreConfig config = small_store();
  config.size_bytes = (kMostAtOnce + 1) * kChunk;
  const FullEntry full(config);
  StoreSession session(config, full.entry, 32 * kKib);
  StoreHarness& harness = session.harness();
  const store::CacheFile& file = *session.cache().file;
  CHECK(cached_bytes(session) == kChunk);
  // The read alone has to do with the pipe, and waits for what comes out of it.
  const std::string path = full.entry.spec().directory + "/pipe";
  CHECK(::mkfifo(path.c_str(), 0600) == 0);
  const Fd pipe(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  const Fd data(::dup(file.data_fd()));
  CHECK(::dup3(pipe.get(), file.data_fd(), O_CLOEXEC) >= 0);
  harness.read(0, kMostAtOnce * kChunk, 4 * kKib);
  harness.turn();
  CHECK(::dup3(data.get(), file.data_fd(), O_CLOEXEC) >= 0);
  while (full.entry.data_bytes_on_disk() > kChunk + kOverheadBytes)
    harness.turn();
  CHECK(!harness.done(0) && cached_bytes(session) == kChunk);
  const unbd::test::UnitBytes unit(file, kMostAtOnce, 0);
  CHECK(::write(pipe.get(), unit.data(), unit.length) == static_cast<ssize_t>(unit.length));
  while (!harness.done(0))
    harness.turn();
  CHECK(harness.result(0) == 4 * kKib && session.source().asked_bytes() == 0);
  CHECK(cached_bytes(session) == 0 && session.count(StoreCounters::kCacheCorruptBytes) == 0);
  harness.end();
  CHECK(full.entry.data_bytes_on_disk() <= kOverheadBytes && harness.warnings() == 0);
}

TEST("where nothing can be given up it is told once, and the rest is read from there") {
  const FullEntry full(large_store());
  const uint64_t size_bytes = full.config.size_bytes;
  {
    StoreSession session(full.config, full.entry, size_bytes / 4);
    session.replace(session.cache().file->map_fd(), "/dev/full", O_RDWR);
    const uint64_t rest_bytes = size_bytes - kMostAtOnce * kChunk;
    CHECK(session.read(kMostAtOnce * kChunk, rest_bytes) && session.source().asked_bytes() == 0);
    session.harness().end();
    CHECK(session.harness().warnings() == 1 && cached_bytes(session) == rest_bytes);
  }
  const CacheEntry::Verified verified = full.entry.verify();
  CHECK(verified.dropped_bytes == 0 && verified.kept_bytes == size_bytes);
}

TEST_MAIN()
