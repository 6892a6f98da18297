// Owns: the claims about the background fill of a whole object: what it asks for, in which order,
// how much at once, and how it ends.
// Runs on the test's thread, as the queue and as the source.
// Must not: depend on how long a pause takes.
#include "test/allocations.h"
#include "test/check.h"
#include "test/store_session.h"

using namespace unbd;
using unbd::store::Prefetch;
using unbd::store::StoreConfig;
using unbd::store::StoreCounters;
using unbd::test::CacheEntry;
using unbd::test::kChunk;
using unbd::test::kKib;
using unbd::test::StoreSession;

namespace {

StoreConfig all_of_it(uint64_t bytes_per_s = 0) {
  StoreConfig config = unbd::test::small_store();
  config.prefetches = true;
  config.prefetch_bytes_per_s = bytes_per_s;
  return config;
}
// Memory for eight of its chunks.
StoreConfig narrow() {
  StoreConfig config = all_of_it();
  config.memory_bytes = 8 * kChunk;
  return config;
}

uint64_t cached(const StoreSession& session) {
  return session.count(StoreCounters::kCachedBytes);
}

// Plays the source until so much of the object is in the cache.
void serve_until_cached(StoreSession& session, uint64_t bytes) {
  while (cached(session) < bytes) {
    session.source().serve_once();
    session.harness().turn();
  }
}

// What is asked for next, however many turns that takes.
std::vector<Fill> next_fills(StoreSession& session) {
  std::vector<Fill> fills;
  while ((fills = session.source().take()).empty())
    session.harness().turn();
  return fills;
}

}  // namespace

TEST("the whole object comes to disk, each byte once, and a successor asks for nothing") {
  for (const StoreConfig& config : {all_of_it(), narrow()}) {
    const CacheEntry entry(config);
    {
      StoreSession session(config, entry);
      serve_until_cached(session, config.size_bytes);
      CHECK(session.source().asked_bytes() == config.size_bytes);
      CHECK(session.read_all() && session.source().asked_bytes() == config.size_bytes);
    }
    CHECK(entry.verify().kept_bytes == config.size_bytes && entry.verify().dropped_bytes == 0);
    StoreSession successor(config, entry);
    CHECK(successor.read_all());
    // A pass of a complete object ends with the first pause, and asks for nothing.
    successor.harness().turn();
    CHECK(successor.source().take().empty());
  }
}

TEST("only what is missing is asked for, also within a chunk") {
  const StoreConfig config = all_of_it();
  const CacheEntry entry(config);
  StoreConfig alone = config;
  alone.prefetches = false;
  {
    StoreSession session(alone, entry);
    CHECK(session.read(8 * kKib, 4 * kKib) && session.read(20 * kKib, 8 * kKib));
    CHECK(session.read(kChunk, kChunk));
  }
  StoreSession session(config, entry);
  const std::vector<Fill> fills = next_fills(session);
  const uint64_t expected[][2] = {
      {0, 8 * kKib}, {12 * kKib, 8 * kKib}, {28 * kKib, kChunk - 28 * kKib}, {2 * kChunk, kChunk}};
  CHECK(fills.size() == Prefetch::kMostAtOnce);
  for (size_t at = 0; at < 4; ++at) {
    CHECK(fills[at].offset_bytes == expected[at][0] && fills[at].length_bytes == expected[at][1]);
    CHECK(fills[at].background && !fills[at].urgent);
  }
}

TEST("a few are asked for at once, and the next one when one of them is written") {
  const StoreConfig config = all_of_it();
  const CacheEntry entry(config);
  StoreSession session(config, entry);
  std::vector<Fill> fills = next_fills(session);
  CHECK(fills.size() == Prefetch::kMostAtOnce);
  session.source().land(fills[3]);
  fills = next_fills(session);
  CHECK(fills.size() == 1 && fills[0].offset_bytes == Prefetch::kMostAtOnce * kChunk);
  const StoreConfig small = narrow();
  const CacheEntry other(small);
  StoreSession narrow_one(small, other);
  CHECK(next_fills(narrow_one).size() == 2);
}

TEST("who waits for what is on its way makes it urgent, and it is not asked for again") {
  const StoreConfig config = all_of_it();
  const CacheEntry entry(config);
  StoreSession session(config, entry);
  const std::vector<Fill> fills = next_fills(session);
  session.harness().read(0, kChunk + 4 * kKib, 4 * kKib);
  const std::vector<Fill> promoted = session.source().take();
  CHECK(promoted.size() == 1 && promoted[0].kind == Fill::Kind::kPromote);
  CHECK(promoted[0].id == fills[1].id);
  session.source().land(fills[1]);
  CHECK(session.harness().done(0));
}

TEST("what was read stays in memory while the object passes through it") {
  const StoreConfig config = narrow();
  const CacheEntry entry(config);
  StoreSession session(config, entry);
  CHECK(session.read(20 * kChunk, kChunk));
  session.settle();
  serve_until_cached(session, config.size_bytes);
  CHECK(session.read(20 * kChunk, kChunk));
  CHECK(session.count(StoreCounters::kCacheReadBytes) == 0);
  CHECK(session.count(StoreCounters::kHits) == 1);
}

TEST("what could not be brought is asked for again, and the rest meanwhile") {
  const StoreConfig config = all_of_it();
  const CacheEntry entry(config);
  StoreSession session(config, entry);
  const std::vector<Fill> fills = next_fills(session);
  session.source().report(fills[0], 8 * kKib, EIO);
  for (size_t at = 1; at < fills.size(); ++at)
    session.source().report(fills[at], fills[at].length_bytes);
  serve_until_cached(session, config.size_bytes);
  CHECK(session.source().asked_bytes() ==
        config.size_bytes - Prefetch::kMostAtOnce * kChunk + kChunk - 8 * kKib);
}

TEST("a cache that takes nothing gets nothing, until it does") {
  const StoreConfig config = all_of_it();
  const CacheEntry entry(config);
  StoreSession session(config, entry);
  session.cache().may_write->store(false);
  // The first pause, and the one after a look at the cache.
  session.harness().turn();
  CHECK(session.source().take().empty());
  // What is fetched meanwhile stays in memory, and is written from there.
  CHECK(session.read(4 * kKib, 4 * kKib) && cached(session) == 0);
  session.cache().may_write->store(true);
  serve_until_cached(session, config.size_bytes);
  CHECK(session.source().asked_bytes() == config.size_bytes);
  CHECK(session.harness().warnings() == 0);
}

TEST("what the disk was too slow for is written from memory, and not fetched again") {
  StoreConfig config = all_of_it();
  config.memory_bytes = 32 * kChunk;
  const CacheEntry entry(config);
  StoreSession session(config, entry);
  session.harness().turn();
  // More at once than half of the memory, beside what is prefetched.
  for (uint16_t tag = 8; tag < 24; ++tag)
    session.harness().read(tag, tag * kChunk, kChunk);
  session.source().serve_once();
  session.harness().turn();
  CHECK(session.count(StoreCounters::kCacheSkippedBytes) > 0);
  serve_until_cached(session, config.size_bytes);
  CHECK(session.source().asked_bytes() == config.size_bytes);
}

TEST("with a rate one fill begins after the other") {
  // A chunk takes 20 ms.
  const StoreConfig config = all_of_it(50 * kChunk);
  const CacheEntry entry(config);
  StoreSession session(config, entry);
  for (uint64_t chunk = 0; chunk < 6; ++chunk) {
    const std::vector<Fill> fills = next_fills(session);
    CHECK(fills.size() == 1 && fills[0].offset_bytes == chunk * kChunk);
  }
}

TEST("it stops with a pause and with fills under way, and asks for nothing after a failure") {
  const StoreConfig config = all_of_it(1024 * kKib);
  const CacheEntry entry(config);
  {
    StoreSession session(config, entry);
  }
  {
    StoreSession session(config, entry);
    CHECK(next_fills(session).size() == 1);
  }
  StoreSession session(config, entry);
  const std::vector<Fill> fills = next_fills(session);
  session.harness().adapter().fail_all(EIO);
  session.source().land(fills[0]);
  while (session.count(StoreCounters::kCacheWrittenBytes) == 0)
    session.harness().turn();
  CHECK(session.source().take().empty());
}

TEST("nothing of it allocates") {
  const StoreConfig config = narrow();
  const CacheEntry entry(config);
  StoreSession session(config, entry);
  const unsigned before = unbd::test::allocations;
  serve_until_cached(session, config.size_bytes);
  session.harness().adapter().stop();
  while (!session.harness().adapter().stopped())
    session.harness().turn();
  CHECK(unbd::test::allocations == before);
}

TEST_MAIN()
