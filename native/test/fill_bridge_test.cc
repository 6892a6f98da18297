// Owns: the claims about FillBridge: order, what a report may skip, and that no report is lost
// between two threads.
// Runs on: the test's thread, and a std::thread as the source.
// Must not: poll where a queue would wait: the eventfd is read by a ring, as there.
#include "bridge/fill_bridge.h"

#include <cerrno>
#include <random>
#include <thread>
#include <vector>

#include "ring/ring.h"
#include "test/check.h"

using namespace unbd;

namespace {

class CountingDoorbell final : public Doorbell {
 public:
  void ring() override {
    rings.fetch_add(1, std::memory_order_release);
    rings.notify_one();
  }
  std::atomic<uint32_t> rings{0};
};

struct Fixture {
  std::shared_ptr<CountingDoorbell> doorbell = std::make_shared<CountingDoorbell>();
  FillBridge bridge{doorbell};
};

Fill read_fill(uint32_t id, uint32_t length_bytes) {
  return {.offset_bytes = id * uint64_t{4096}, .length_bytes = length_bytes, .id = id};
}

Fill promotion(uint32_t id) {
  return {.id = id, .kind = Fill::Kind::kPromote};
}

}  // namespace

TEST("fills come in order, and the doorbell rings once for what was pushed") {
  Fixture fixture;
  CHECK(fixture.bridge.error() == 0);
  fixture.bridge.ring();
  CHECK(fixture.doorbell->rings == 0);
  CHECK(fixture.bridge.push(read_fill(7, 4096)) && fixture.bridge.push(read_fill(3, 8192)));
  fixture.bridge.ring();
  fixture.bridge.ring();
  CHECK(fixture.doorbell->rings == 1);
  Fill fill;
  CHECK(fixture.bridge.take(&fill) && fill.id == 7 && fill.length_bytes == 4096);
  CHECK(fixture.bridge.take(&fill) && fill.id == 3 && fill.offset_bytes == 3 * 4096);
  CHECK(!fixture.bridge.take(&fill));
}

TEST("of two reports about a fill the queue sees the later one, once") {
  Fixture fixture;
  Fill fill;
  FillReport report;
  CHECK(fixture.bridge.push(read_fill(200, 8192)) && fixture.bridge.take(&fill));
  CHECK(!fixture.bridge.take(&report));
  fixture.bridge.report({.id = 200, .landed_bytes = 100});
  fixture.bridge.report({.id = 200, .landed_bytes = 5000});
  CHECK(fixture.bridge.take(&report));
  CHECK(report.id == 200 && report.landed_bytes == 5000 && report.error == 0);
  CHECK(!fixture.bridge.take(&report));
  fixture.bridge.report({.id = 200, .landed_bytes = 5000, .error = EIO});
  CHECK(fixture.bridge.take(&report) && report.landed_bytes == 5000 && report.error == EIO);
  CHECK(!fixture.bridge.take(&report));
}

TEST("an id is used again after its fill's end, with nothing left of that") {
  Fixture fixture;
  Fill fill;
  FillReport report;
  for (int round = 0; round < 3; ++round) {
    CHECK(fixture.bridge.push(read_fill(0, 4096)) && fixture.bridge.take(&fill));
    CHECK(!fixture.bridge.take(&report));
    fixture.bridge.report({.id = 0, .landed_bytes = 4096});
    CHECK(fixture.bridge.take(&report) && report.landed_bytes == 4096 && report.error == 0);
  }
}

TEST("a promotion that comes after its fill's end is not handed out") {
  Fixture fixture;
  Fill fill;
  FillReport report;
  CHECK(fixture.bridge.push(read_fill(5, 4096)) && fixture.bridge.take(&fill));
  CHECK(fixture.bridge.push(promotion(5)));
  fixture.bridge.report({.id = 5, .error = ETIMEDOUT});
  CHECK(fixture.bridge.take(&report));
  CHECK(fixture.bridge.push(read_fill(5, 512)) && fixture.bridge.push(promotion(5)));
  CHECK(fixture.bridge.take(&fill) && fill.kind == Fill::Kind::kRead && fill.length_bytes == 512);
  CHECK(fixture.bridge.take(&fill) && fill.kind == Fill::Kind::kPromote && fill.id == 5);
  CHECK(!fixture.bridge.take(&fill));
}

TEST("all fills, ended, promoted and pushed again before the source looks, find room") {
  Fixture fixture;
  Fill fill;
  FillReport report;
  for (uint32_t id = 0; id < kMaxFills; ++id)
    CHECK(fixture.bridge.push(read_fill(id, 512)) && fixture.bridge.take(&fill));
  for (uint32_t id = 0; id < kMaxFills; ++id) {
    CHECK(fixture.bridge.push(promotion(id)));
    fixture.bridge.report({.id = id, .landed_bytes = 512});
  }
  unsigned ended = 0;
  while (fixture.bridge.take(&report))
    ended += report.landed_bytes == 512 ? 1 : 0;
  CHECK(ended == kMaxFills);
  for (uint32_t id = 0; id < kMaxFills; ++id)
    CHECK(fixture.bridge.push(read_fill(id, 512)) && fixture.bridge.push(promotion(id)));
  unsigned reads = 0;
  unsigned promotions = 0;
  while (fixture.bridge.take(&fill))
    ++(fill.kind == Fill::Kind::kRead ? reads : promotions);
  CHECK(reads == kMaxFills && promotions == kMaxFills);
}

// The source's bytes travel beside the bridge: what a report says has landed must be seen.
TEST("between two threads no report is lost, and what has landed is seen") {
  constexpr uint32_t kLength = 64;
  constexpr unsigned kTotal = 20000;
  Fixture fixture;
  FillBridge& bridge = fixture.bridge;
  std::vector<uint8_t> arena(kMaxFills * kLength);
  std::atomic<bool> over{false};
  std::thread source([&] {
    std::mt19937 random(1);
    Fill fill;
    while (!over.load()) {
      const uint32_t rung = fixture.doorbell->rings.load(std::memory_order_acquire);
      if (!bridge.take(&fill)) {
        fixture.doorbell->rings.wait(rung);
        continue;
      }
      if (fill.kind != Fill::Kind::kRead) continue;
      for (uint32_t landed = 0; landed < kLength;) {
        const uint32_t more = 1 + static_cast<uint32_t>(random() % (kLength - landed));
        for (uint32_t at = landed; at < landed + more; ++at)
          arena[fill.id * kLength + at] = static_cast<uint8_t>(fill.offset_bytes);
        landed += more;
        bridge.report({.id = fill.id, .landed_bytes = landed});
      }
    }
  });
  Ring ring;
  UN_ASSERT(ring.init({.entries = 8, .cq_entries = 16}) == 0);
  std::vector<uint64_t> asked(kMaxFills);
  std::vector<uint32_t> free_ids;
  for (uint32_t id = 0; id < kMaxFills; ++id)
    free_ids.push_back(id);
  unsigned pushed = 0;
  unsigned ended = 0;
  bool is_right = true;
  bool waits = false;
  while (ended < kTotal) {
    while (!free_ids.empty() && pushed < kTotal) {
      const uint32_t id = free_ids.back();
      free_ids.pop_back();
      asked[id] = pushed++;
      UN_ASSERT(bridge.push({.offset_bytes = asked[id], .length_bytes = kLength, .id = id}));
      if (pushed % 3 == 0) UN_ASSERT(bridge.push(promotion(id)));
    }
    bridge.ring();
    if (!waits) bridge.stage_wait(ring.get_sqe());
    waits = true;
    UN_ASSERT(ring.submit_and_wait(60'000) == 0);
    // Without a CQE in that time a report was lost.
    UN_ASSERT(ring.reap([](uint64_t, int32_t result, uint32_t) { UN_ASSERT(result == 8); }) == 1);
    waits = false;
    FillReport report;
    while (bridge.take(&report)) {
      for (uint32_t at = 0; at < report.landed_bytes; ++at)
        is_right &= arena[report.id * kLength + at] == static_cast<uint8_t>(asked[report.id]);
      if (report.landed_bytes < kLength) continue;
      free_ids.push_back(report.id);
      ++ended;
    }
  }
  over = true;
  fixture.doorbell->ring();
  source.join();
  CHECK(is_right);
}

TEST_MAIN()
