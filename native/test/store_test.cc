// Owns: the claims about StoreAdapter, one by one, with a source that the test plays itself.
// Runs on the test's thread, as the queue and as the source.
// Must not: depend on time; what is random stands in store_model_test.cc.
#include <cerrno>

#include "test/allocations.h"
#include "test/check.h"
#include "test/played_source.h"

using namespace unbd;
using unbd::store::StoreConfig;
using unbd::store::StoreCounters;
using unbd::test::allocations;
using Source = unbd::test::PlayedSource;
using unbd::test::StoreHarness;

namespace {

constexpr uint64_t kKib = 1024;
constexpr uint64_t kMib = 1024 * 1024;

// Sixteen chunks of 1 MiB in memory; units of 16 KiB.
StoreConfig roomy() {
  return {.size_bytes = 64 * kMib + 1536, .memory_bytes = 16 * kMib};
}
// Four chunks of 64 KiB in memory; units of 4 KiB.
StoreConfig narrow(uint32_t maximum_window_bytes = 0) {
  return {.size_bytes = 64 * kMib,
          .memory_bytes = 256 * kKib,
          .chunk_bytes = 64 * kKib,
          .maximum_window_bytes = maximum_window_bytes};
}

bool is_read(const Fill& fill, uint64_t offset_bytes, uint64_t length_bytes, bool urgent) {
  return fill.kind == Fill::Kind::kRead && fill.offset_bytes == offset_bytes &&
         fill.length_bytes == length_bytes && fill.urgent == urgent;
}

}  // namespace

TEST("a miss asks for the units that the read covers, and later reads of them are hits") {
  StoreConfig config = roomy();
  config.maximum_window_bytes = 0;
  StoreHarness harness(config);
  Source source(harness);
  harness.read(0, 3 * kMib + 20 * kKib, 512);
  CHECK(harness.doorbell().rings == 1);
  std::vector<Fill> fills = source.take();
  CHECK(fills.size() == 1 && is_read(fills[0], 3 * kMib + 16 * kKib, 16 * kKib, true));
  CHECK(!harness.done(0));
  source.land(fills[0]);
  CHECK(harness.done(0) && harness.result(0) == 512);
  CHECK(harness.run(Op::kRead, 3 * kMib + 16 * kKib, 16 * kKib) == 16 * kKib);
  CHECK(harness.count(StoreCounters::kHits) == 1 && harness.count(StoreCounters::kMisses) == 1);
  CHECK(harness.count(StoreCounters::kFills) == 1);
  CHECK(harness.count(StoreCounters::kBytesFilled) == 16 * kKib);
}

TEST("a read of several chunks asks for all runs that are missing, at once") {
  StoreConfig config = roomy();
  config.maximum_window_bytes = 0;
  StoreHarness harness(config);
  Source source(harness);
  harness.read(0, 1 * kMib + 512 * kKib, 16 * kKib);
  source.land(source.take()[0]);
  harness.read(1, 1 * kMib + 256 * kKib, kMib);
  std::vector<Fill> fills = source.take();
  CHECK(fills.size() == 3);
  CHECK(is_read(fills[0], 1 * kMib + 256 * kKib, 256 * kKib, true));
  CHECK(is_read(fills[1], 1 * kMib + 528 * kKib, 496 * kKib, true));
  CHECK(is_read(fills[2], 2 * kMib, 256 * kKib, true));
  // In any order.
  source.land(fills[2]);
  source.land(fills[0]);
  CHECK(!harness.done(1));
  source.land(fills[1]);
  CHECK(harness.done(1) && harness.result(1) == kMib);
}

TEST("who waits is answered when its bytes have landed, before the fill ends") {
  StoreHarness harness(narrow());
  Source source(harness);
  harness.read(0, 0, 64 * kKib);
  harness.read(1, 4 * kKib, 4 * kKib);
  harness.read(2, 60 * kKib, 512);
  std::vector<Fill> fills = source.take();
  CHECK(fills.size() == 1 && is_read(fills[0], 0, 64 * kKib, true));
  source.land(fills[0], 8 * kKib - 8);
  CHECK(!harness.done(0) && !harness.done(1) && !harness.done(2));
  source.land(fills[0], 8 * kKib);
  CHECK(!harness.done(0) && harness.done(1) && !harness.done(2));
  source.land(fills[0], 60 * kKib + 504);
  CHECK(!harness.done(0) && !harness.done(2));
  source.land(fills[0]);
  CHECK(harness.done(0) && harness.done(2) && source.take().empty());
}

TEST("who waits needs no whole unit, but no byte of it is taken that has not landed") {
  StoreConfig config = roomy();
  config.maximum_window_bytes = 0;
  StoreHarness harness(config);
  Source source(harness);
  for (uint16_t tag = 0; tag < 4; ++tag)
    harness.read(tag, kMib + tag * 4 * kKib, 4 * kKib);
  harness.read(4, kMib + 2 * kKib, 20 * kKib);
  std::vector<Fill> fills = source.take();
  CHECK(fills.size() == 2 && is_read(fills[0], kMib, 16 * kKib, true));
  source.land(fills[0], 13 * kKib);
  CHECK(harness.done(0) && harness.done(1) && harness.done(2) && !harness.done(3));
  source.land(fills[1]);
  CHECK(!harness.done(4));
  // Not present yet for who comes now; nor asked for again.
  harness.read(5, kMib, 512);
  CHECK(!harness.done(5) && source.take().empty());
  source.land(fills[0], 13 * kKib + 512);
  CHECK(harness.done(5));
  source.land(fills[0], 14 * kKib, EIO);
  CHECK(harness.result(3) == -EIO && harness.result(4) == -EIO && harness.result(0) == 4 * kKib);
  harness.read(6, kMib, 4 * kKib);
  fills = source.take();
  CHECK(fills.size() == 1 && is_read(fills[0], kMib, 16 * kKib, true));
  source.land(fills[0], 4 * kKib);
  CHECK(harness.done(6));
}

TEST("the object's short last chunk is asked for to its end, and not beyond") {
  StoreHarness harness(roomy());
  Source source(harness);
  harness.read(0, 64 * kMib - 512, 2048);
  std::vector<Fill> fills = source.take();
  CHECK(fills.size() == 2 && is_read(fills[0], 64 * kMib - 16 * kKib, 16 * kKib, true));
  CHECK(is_read(fills[1], 64 * kMib, 1536, true));
  source.land(fills[1]);
  source.land(fills[0]);
  CHECK(harness.done(0) && harness.result(0) == 2048);
}

TEST("a sequence is read ahead, and who needs what is on its way makes it urgent once") {
  StoreHarness harness(roomy());
  Source source(harness);
  harness.read(0, 0, 64 * kKib);
  source.land(source.take()[0]);
  harness.read(0, 64 * kKib, 64 * kKib);
  std::vector<Fill> fills = source.take();
  CHECK(fills.size() == 2 && is_read(fills[0], 64 * kKib, 64 * kKib, true));
  CHECK(is_read(fills[1], 128 * kKib, 128 * kKib, false));
  source.land(fills[0]);
  harness.read(1, 128 * kKib, 16 * kKib);
  harness.read(2, 144 * kKib, 16 * kKib);
  const std::vector<Fill> next = source.take();
  unsigned promotions = 0;
  for (const Fill& each : next) {
    CHECK(each.kind == Fill::Kind::kPromote ? each.id == fills[1].id : !each.urgent);
    promotions += each.kind == Fill::Kind::kPromote ? 1 : 0;
  }
  CHECK(promotions == 1);
  source.land(fills[1], 16 * kKib);
  CHECK(harness.done(1) && !harness.done(2));
  source.land(fills[1]);
  CHECK(harness.done(2));
}

TEST("a wide window asks for whole chunks") {
  StoreHarness harness(roomy());
  Source source(harness);
  uint64_t next = 0;
  unsigned whole = 0;
  for (int at = 0; at < 64; ++at) {
    harness.read(0, next, 128 * kKib);
    next += 128 * kKib;
    // Landing may let another fill be asked for.
    for (std::vector<Fill> fills = source.take(); !fills.empty(); fills = source.take()) {
      for (const Fill& fill : fills) {
        if (fill.kind == Fill::Kind::kPromote) continue;
        whole += fill.length_bytes == kMib ? 1 : 0;
        source.land(fill);
      }
    }
    CHECK(harness.done(0));
  }
  CHECK(whole >= 8 && harness.count(StoreCounters::kHits) > 58);
  CHECK(harness.count(StoreCounters::kBytesFilled) <= 8 * kMib + 9 * kMib);
}

TEST("what landed before an error stays, and who needs the rest gets the error") {
  StoreHarness harness(narrow());
  Source source(harness);
  harness.read(0, 0, 64 * kKib);
  harness.read(1, 0, 8 * kKib);
  harness.read(2, 8 * kKib, 512);
  harness.read(3, 4 * kKib, 8 * kKib);
  source.land(source.take()[0], 8 * kKib + 512, ETIMEDOUT);
  CHECK(harness.result(0) == -ETIMEDOUT && harness.result(1) == 8 * kKib);
  CHECK(harness.result(2) == 512 && harness.result(3) == -ETIMEDOUT);
  CHECK(harness.in_flight() == 0);
  CHECK(harness.run(Op::kRead, 0, 8 * kKib) == 8 * kKib);
  // What failed is asked for anew.
  harness.read(0, 8 * kKib, 512);
  std::vector<Fill> fills = source.take();
  CHECK(fills.size() == 1 && is_read(fills[0], 8 * kKib, 4 * kKib, true));
  source.land(fills[0]);
  CHECK(harness.result(0) == 512);
}

TEST("without a free slot requests wait in order, and go on when fills end") {
  StoreHarness harness(narrow());
  Source source(harness);
  for (uint16_t tag = 0; tag < 7; ++tag)
    harness.read(tag, tag * 64 * kKib, 512);
  std::vector<Fill> fills = source.take();
  CHECK(fills.size() == 4);
  CHECK(source.take().empty());
  source.land(fills[2]);
  std::vector<Fill> next = source.take();
  CHECK(harness.done(2) && next.size() == 1 && next[0].offset_bytes == 4 * 64 * kKib);
  CHECK(next[0].arena_offset_bytes == fills[2].arena_offset_bytes);
  source.land(fills[0], 0, EIO);
  next.push_back(source.take()[0]);
  CHECK(harness.result(0) == -EIO && next[1].offset_bytes == 5 * 64 * kKib);
  source.land(next[0]);
  next.push_back(source.take()[0]);
  CHECK(harness.done(4) && next[2].offset_bytes == 6 * 64 * kKib);
  for (const Fill& fill : {fills[1], fills[3], next[1], next[2]})
    source.land(fill);
  CHECK(harness.in_flight() == 0 && source.take().empty());
}

TEST("without a free fill id requests wait, and read-ahead leaves half of the ids") {
  StoreConfig config{.size_bytes = 1024 * kMib,
                     .memory_bytes = 64 * kMib,
                     .chunk_bytes = 64 * kKib,
                     .maximum_window_bytes = 16 * kMib};
  StoreHarness harness(config);
  Source source(harness);
  // Reads far ahead of which none is answered: the window would be 256 chunks.
  for (uint16_t tag = 0; tag < 12; ++tag)
    harness.read(tag, tag * 256 * kKib, 256 * kKib);
  std::vector<Fill> fills = source.take();
  std::erase_if(fills, [](const Fill& fill) { return fill.kind == Fill::Kind::kPromote; });
  CHECK(fills.size() >= kMaxFills / 2 && fills.size() <= kMaxFills / 2 + 12);
  // The other half takes a few large reads; what is left over waits.
  for (uint16_t tag = 12; tag < 24; ++tag)
    harness.read(tag, (512 + tag * 16) * kMib, kMib);
  for (const Fill& fill : source.take())
    fills.push_back(fill);
  CHECK(fills.size() == kMaxFills);
  for (size_t at = 0; at < fills.size(); ++at) {
    if (fills[at].kind == Fill::Kind::kRead) source.land(fills[at]);
    for (const Fill& fill : source.take())
      fills.push_back(fill);
  }
  CHECK(harness.in_flight() == 0);
}

TEST("flush is done at once, and nothing is written") {
  StoreHarness harness(narrow());
  CHECK(harness.run(Op::kFlush, 0, 0) == 0);
  for (Op op : {Op::kWrite, Op::kDiscard, Op::kWriteZeroes})
    CHECK(harness.run(op, 0, 512) == -EROFS);
}

TEST("fail_all fails who waits and who comes; what lands afterwards harms nobody") {
  StoreHarness harness(narrow());
  Source source(harness);
  for (uint16_t tag = 0; tag < 8; ++tag)
    harness.read(tag, tag * 64 * kKib, 4 * kKib);
  harness.adapter().fail_all(ESHUTDOWN);
  CHECK(harness.in_flight() == 0);
  for (uint16_t tag = 0; tag < 8; ++tag)
    CHECK(harness.result(tag) == -ESHUTDOWN);
  const std::vector<Fill> fills = source.take();
  CHECK(fills.size() == 4);
  source.land(fills[0]);
  source.land(fills[1], 512, EIO);
  CHECK(harness.run(Op::kRead, 0, 512) == -ESHUTDOWN);
  CHECK(harness.run(Op::kFlush, 0, 0) == -ESHUTDOWN);
}

TEST("stop leaves fills in flight to the source, whose reports go nowhere") {
  StoreHarness harness(roomy());
  Source source(harness);
  harness.read(0, 0, 64 * kKib);
  source.land(source.take()[0]);
  harness.read(0, 64 * kKib, 16 * kKib);
  std::vector<Fill> fills = source.take();
  CHECK(fills.size() == 2 && !fills[1].urgent);
  source.land(fills[0]);
  CHECK(harness.in_flight() == 0 && !harness.adapter().stopped());
  source.report(fills[1], 512);  // its event and the cancellation cross
  harness.end();
  source.report(fills[1], fills[1].length_bytes);
}

TEST("no read, report, eviction or starved wait allocates") {
  StoreHarness harness(narrow(128 * kKib));
  FillBridge& bridge = *harness.parts().bridge;
  const unsigned before = allocations;
  for (uint64_t round = 0; round < 50; ++round) {
    for (uint16_t tag = 0; tag < 16; ++tag)
      harness.read(tag, ((round * 16 + tag) * 96 % 8192) * kKib, 128 * kKib);
    for (Fill fill; harness.in_flight() > 0;) {
      while (bridge.take(&fill)) {
        if (fill.kind == Fill::Kind::kPromote) continue;
        unbd::test::write_object(harness.parts().arena->data() + fill.arena_offset_bytes,
                                 fill.offset_bytes, fill.length_bytes);
        bridge.report({.id = fill.id, .landed_bytes = fill.length_bytes});
      }
      harness.turn();
    }
  }
  CHECK(allocations == before);
  CHECK(harness.count(StoreCounters::kMisses) > 0);
}

TEST_MAIN()
