// Owns: the trial of StoreAdapter by random reads against a source that is slow, late and faulty,
// in an arena that is far too small. The harness judges the bytes, the source what it is asked for.
// Runs on: the test's thread as the queue, and the source's.
// Must not: need more than a few seconds, also under a sanitizer.
#include "test/check.h"
#include "test/random_reads.h"
#include "test/store_source.h"

using namespace unbd;
using unbd::store::StoreConfig;
using unbd::store::StoreCounters;
using unbd::test::new_seed;
using unbd::test::Outcome;
using unbd::test::RandomSource;
using unbd::test::read_at_random;
using unbd::test::StoreHarness;
using unbd::test::tiny;

TEST("random reads through four chunks, at depth 64, are all right and none hangs") {
  for (uint32_t chunk_bytes : {64U << 10, 256U << 10, 1U << 20}) {
    const unsigned seed = new_seed();
    const StoreConfig config = tiny(chunk_bytes);
    StoreHarness harness(config);
    RandomSource source(config, harness, {.seed = seed, .sleep_percent = 5});
    const Outcome outcome = read_at_random(config, harness, seed, 800);
    CHECK(outcome.served == 800 && outcome.failed == 0);
    CHECK(harness.count(StoreCounters::kHits) + harness.count(StoreCounters::kMisses) == 800);
  }
}

TEST("errors of the source fail reads, and harm none that is answered") {
  const unsigned seed = new_seed();
  const StoreConfig config = tiny(64 << 10);
  StoreHarness harness(config);
  RandomSource source(config, harness, {.seed = seed, .error_percent = 3, .sleep_percent = 2});
  const Outcome outcome = read_at_random(config, harness, seed, 1500);
  CHECK(outcome.served > 0 && outcome.failed > 0 && outcome.served + outcome.failed == 1500);
}

TEST("with room for the object each of its bytes is fetched once") {
  const unsigned seed = new_seed();
  const StoreConfig config{.size_bytes = (16 << 20) + 512, .memory_bytes = 40 << 20};
  StoreHarness harness(config);
  {
    RandomSource source(config, harness, {.seed = seed, .sleep_percent = 5});
    const Outcome outcome = read_at_random(config, harness, seed, 1500);
    CHECK(outcome.served == 1500);
    for (uint64_t at = 0; at < config.size_bytes; at += 512 << 10) {
      harness.read(0, at, std::min<uint64_t>(512 << 10, config.size_bytes - at));
      while (harness.in_flight() > 0)
        harness.turn();
    }
    while (harness.count(StoreCounters::kBytesFilled) < config.size_bytes)
      harness.turn();
  }
  CHECK(harness.count(StoreCounters::kBytesFilled) == config.size_bytes);
  CHECK(harness.count(StoreCounters::kHits) > 0);
}

TEST("fail_all and stop find fills in flight, and the source goes on without a queue") {
  for (int round = 0; round < 20; ++round) {
    const unsigned seed = new_seed();
    const StoreConfig config = tiny(64 << 10);
    StoreHarness harness(config);
    RandomSource source(config, harness, {.seed = seed, .error_percent = 1, .sleep_percent = 20});
    for (uint16_t tag = 0; tag < StoreHarness::kDepth; ++tag)
      harness.read(tag, tag % 24 * (uint64_t{64} << 10), 64 << 10);
    for (unsigned turns = seed % 5; turns > 0 && harness.in_flight() > 0; --turns)
      harness.turn();
    harness.adapter().fail_all(EIO);
    CHECK(harness.in_flight() == 0);
    CHECK(harness.run(Op::kRead, 0, 512) == -EIO && harness.run(Op::kFlush, 0, 0) == -EIO);
    harness.end();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

TEST_MAIN()
