// Owns: the claims about writes that a backend has acknowledged and not made durable: that the log
// has them, and that it never overflows.
// Runs on the test's thread.
// Must not: look into the log's file; that is nbd_unflushed_log_test.cc.
#include "test/log_fixture.h"
#include "test/nbd_image.h"

using namespace nbd_test;
using log_test::entries_of;
using log_test::Entry;
using unbd::LogKind;
using unbd::Unflushed;

namespace {

constexpr int64_t kForever = unbd::NbdDeviceConfig::kForever;
constexpr size_t kImageBytes = 1 << 20;
constexpr uint32_t kWriteBytes = 16384;  // three of them fit the log's 64 KiB, four do not

struct Logged {
  explicit Logged(unsigned queues = 1) : log(log_test::create(folder.file(), queues)) {}

  Fixture::Options options() const {
    return {.maximum_request_bytes = 32768,
            .reconnect_delay_ms = kForever,
            .unflushed = Unflushed::kReplay,
            .log = log};
  }

  log_test::Folder folder;
  log_test::Log log;
};

Request write_of(Fixture& fixture, uint16_t tag, uint64_t offset, uint32_t length = kWriteBytes) {
  const Request request = fixture.request(Op::kWrite, tag, offset, length);
  fixture.fill_buffer(tag, offset + 13, length);
  return request;
}

// One request, answered by the image; its result.
int32_t run(Fixture& fixture, Image& image, const Request& request) {
  fixture.submit(request);
  image.serve(fixture, 1);
  return fixture.result_of(request.tag);
}
// Whatever it sends, until so many requests are answered.
void serve_until(Fixture& fixture, Image& image, size_t answered) {
  while (fixture.answered() < answered) {
    fixture.settle();
    if (fixture.backend_has_bytes()) image.serve(fixture, 1);
  }
}
int32_t flush(Fixture& fixture, Image& image) {
  fixture.forget_results();
  fixture.submit(fixture.request(Op::kFlush, 60, 0, 0));
  serve_until(fixture, image, 1);
  return fixture.result_of(60);
}
void lose(Fixture& fixture) {
  const size_t before = fixture.events.size();
  fixture.close_backend();
  REQUIRE(fixture.turn_until([&] { return fixture.events.size() > before; }));
}

}  // namespace

TEST("the log has every change before the kernel hears of it, and a FLUSH takes it out") {
  Logged logged;
  Fixture fixture(logged.options());
  Image image(kImageBytes);
  CHECK(run(fixture, image, write_of(fixture, 0, 4096, 512)) == 512);
  const std::string payload(reinterpret_cast<const char*>(fixture.buffer(0)), 512);
  CHECK(run(fixture, image, fixture.request(Op::kDiscard, 1, 0, 8192)) == 0);
  CHECK(run(fixture, image, fixture.request(Op::kWriteZeroes, 2, 512, 512)) == 0);
  Request zeroes = fixture.request(Op::kWriteZeroes, 3, 1024, 512);
  zeroes.no_unmap = true;
  zeroes.fua = true;
  CHECK(run(fixture, image, zeroes) == 0);
  CHECK(run(fixture, image, fixture.request(Op::kRead, 4, 0, 512)) == 512);
  const std::vector<Entry> expected = {{1, LogKind::kWrite, 4096, 512, payload},
                                       {2, LogKind::kTrim, 0, 8192, ""},
                                       {3, LogKind::kWriteZeroes, 512, 512, ""},
                                       {4, LogKind::kWriteZeroesNoHole, 1024, 512, ""}};
  CHECK(entries_of(*logged.log) == expected);
  CHECK(fixture.device()->unflushed_bytes() == 512);
  CHECK(flush(fixture, image) == 0);
  CHECK(logged.log->all_flushed() && entries_of(*logged.log).empty());
}

TEST("a FLUSH covers what was answered before it was sent, also across a loss, and nothing else") {
  Logged logged;
  Fixture fixture(logged.options());
  Image image(kImageBytes);
  CHECK(run(fixture, image, write_of(fixture, 0, 0, 512)) == 512);
  fixture.submit({fixture.request(Op::kFlush, 60, 0, 0), write_of(fixture, 1, 512, 512)});
  const Sent sent = image.take(fixture);
  image.serve(fixture, 1);
  CHECK(fixture.result_of(1) == 512);
  lose(fixture);
  CHECK(entries_of(*logged.log).size() == 2);
  fixture.resume({.epoch = 2});
  fixture.settle();
  const Sent again = image.take(fixture);
  CHECK(again.type == kCmdFlush && again.cookie != sent.cookie);
  CHECK(run(fixture, image, write_of(fixture, 2, 1024, 512)) == 512);
  fixture.reply(simple(again.cookie));
  CHECK(fixture.result_of(60) == 0);
  CHECK(entries_of(*logged.log).size() == 1 && entries_of(*logged.log)[0].offset == 1024);
}

TEST("a write that failed, and a FLUSH that failed, leave the log as it was") {
  Logged logged;
  Fixture fixture(logged.options());
  Image image(kImageBytes);
  for (int round = 0; round < 20; ++round) {
    fixture.submit(write_of(fixture, 0, 0));
    fixture.reply(simple(image.take(fixture).cookie, 28));
    CHECK(fixture.result_of(0) == -ENOSPC);
  }
  CHECK(entries_of(*logged.log).empty());
  CHECK(run(fixture, image, write_of(fixture, 0, 0)) == kWriteBytes);
  fixture.submit(fixture.request(Op::kFlush, 60, 0, 0));
  fixture.reply(simple(image.take(fixture).cookie, 5));
  CHECK(fixture.result_of(60) == -EIO && entries_of(*logged.log).size() == 1);
}

TEST("a write in flight at a loss keeps its room; one that fails gives it back") {
  for (const bool comes_back : {false, true}) {
    Logged logged;
    Fixture fixture(logged.options());
    Image image(kImageBytes);
    for (int round = 0; round < 5; ++round) {
      fixture.submit({write_of(fixture, 0, 0), write_of(fixture, 1, kWriteBytes),
                      write_of(fixture, 2, 2 * kWriteBytes)});
      fixture.settle();
      lose(fixture);
      if (!comes_back) {
        fixture.adapter().fail_all(EIO);
        CHECK(fixture.result_of(2) == -EIO);
        break;
      }
      fixture.resume({});
      fixture.settle();
      image.serve(fixture, 3);
      for (int tag : {0, 1, 2})
        CHECK(fixture.result_of(tag) == static_cast<int32_t>(kWriteBytes));
      CHECK(flush(fixture, image) == 0);
    }
    // All of it is free again.
    CHECK(logged.log->live_bytes(0) == 0);
    CHECK(logged.log->reserve(0, 60'000));
  }
}

TEST("a full log lets writes wait, nothing else, and flushes by itself") {
  Logged logged;
  Fixture fixture(logged.options());
  Image image(kImageBytes);
  std::vector<Request> batch;
  for (uint16_t tag = 0; tag < 8; ++tag)
    batch.push_back(write_of(fixture, tag, tag * kWriteBytes));
  batch.push_back(write_of(fixture, 8, 0, 512));  // there would be room for it
  batch.push_back(fixture.request(Op::kRead, 9, kImageBytes - 512, 512));
  fixture.submit(batch);
  std::vector<Sent> writes;
  for (int count = 0; count < 3; ++count)
    writes.push_back(image.take(fixture));
  image.serve(fixture, 1);
  CHECK(fixture.result_of(9) == 512 && !fixture.backend_has_bytes());
  // There is nothing to flush before a write was answered; then half of the log is taken.
  fixture.reply(simple(writes[0].cookie));
  CHECK(fixture.result_of(0) == static_cast<int32_t>(kWriteBytes));
  fixture.settle();
  const Sent first_flush = image.take(fixture);
  CHECK(first_flush.type == kCmdFlush && !fixture.backend_has_bytes());
  fixture.reply(simple(first_flush.cookie));
  fixture.settle();
  CHECK(image.take(fixture).offset == 3 * kWriteBytes);
  fixture.reply(simple(image.seen.back().cookie));
  fixture.reply(simple(writes[1].cookie));
  fixture.reply(simple(writes[2].cookie));
  // The kernel never sees our FLUSHes, and everything is done in the end, in order.
  serve_until(fixture, image, 10);
  uint64_t last_offset = 0;
  for (const Sent& sent : image.seen) {
    if (sent.type != kCmdWrite || sent.length != kWriteBytes) continue;
    CHECK(sent.offset == 0 || sent.offset == last_offset + kWriteBytes);
    last_offset = sent.offset;
  }
  CHECK(last_offset == 7 * kWriteBytes);
  CHECK(fixture.events.empty());
}

TEST("a log that is half full is flushed before anybody waits") {
  Logged logged;
  Fixture fixture(logged.options());
  Image image(kImageBytes);
  CHECK(run(fixture, image, write_of(fixture, 0, 0)) == static_cast<int32_t>(kWriteBytes));
  fixture.settle();
  CHECK(!fixture.backend_has_bytes());
  CHECK(run(fixture, image, write_of(fixture, 0, 0)) == static_cast<int32_t>(kWriteBytes));
  fixture.settle();
  const Sent sent = image.take(fixture);
  CHECK(sent.type == kCmdFlush);
  fixture.reply(simple(sent.cookie));
  fixture.settle();
  CHECK(logged.log->all_flushed() && !fixture.backend_has_bytes());
  // Nothing is left for the last FLUSH.
  fixture.adapter().stop();
  CHECK(fixture.next_request().type == kCmdDisc);
}

TEST("a stop while our own FLUSH is under way waits for it") {
  Logged logged;
  Fixture fixture(logged.options());
  Image image(kImageBytes);
  for (int round = 0; round < 2; ++round)
    CHECK(run(fixture, image, write_of(fixture, 0, 0)) == static_cast<int32_t>(kWriteBytes));
  fixture.settle();
  fixture.adapter().stop();
  const Sent sent = image.take(fixture);
  CHECK(sent.type == kCmdFlush && !fixture.backend_has_bytes());
  fixture.reply(simple(sent.cookie));
  fixture.settle();
  CHECK(fixture.next_request().type == kCmdDisc);
  CHECK(logged.log->all_flushed());
}

TEST("a FLUSH of ours that fails fails the writes that waited for it") {
  Logged logged;
  Fixture fixture(logged.options());
  Image image(kImageBytes);
  std::vector<Request> batch;
  for (uint16_t tag = 0; tag < 5; ++tag)
    batch.push_back(write_of(fixture, tag, tag * kWriteBytes));
  fixture.submit(batch);
  image.serve(fixture, 3);
  CHECK(fixture.result_of(2) == static_cast<int32_t>(kWriteBytes));
  fixture.settle();
  const Sent sent = image.take(fixture);
  CHECK(sent.type == kCmdFlush && fixture.answered() == 3);
  fixture.reply(simple(sent.cookie, 5));
  CHECK(fixture.result_of(3) == -EIO && fixture.result_of(4) == -EIO);
  CHECK(fixture.count_events("warning") == 1);
}

TEST("writes that wait for room at a loss are sent behind those that were in flight") {
  Logged logged;
  Fixture fixture(logged.options());
  Image image(kImageBytes);
  std::vector<Request> batch;
  for (uint16_t tag = 0; tag < 5; ++tag)
    batch.push_back(write_of(fixture, tag, tag * kWriteBytes));
  fixture.submit(batch);
  fixture.settle();
  lose(fixture);
  fixture.submit(write_of(fixture, 5, 5 * kWriteBytes));
  fixture.resume({});
  fixture.settle();
  serve_until(fixture, image, 6);
  uint64_t next = 0;
  for (const Sent& sent : image.seen)
    if (sent.type == kCmdWrite) CHECK(sent.offset == kWriteBytes * next++);
  CHECK(next == 6 && fixture.events.back().text == "3");
}

TEST("durable writes carry FUA, or are followed by a FLUSH, and need no log") {
  for (const bool can_fua : {false, true}) {
    Logged logged;
    Fixture::Options options = logged.options();
    options.can_fua = can_fua;
    options.durable_writes = true;
    Fixture fixture(options);
    Image image(kImageBytes);
    for (const Op op : {Op::kWrite, Op::kDiscard, Op::kWriteZeroes}) {
      fixture.submit(fixture.request(op, 0, 0, 512));
      const Sent sent = image.take(fixture);
      CHECK((sent.flags & kFlagFua) == (can_fua ? kFlagFua : 0));
      fixture.reply(simple(sent.cookie));
      if (!can_fua) {
        fixture.settle();
        CHECK(!fixture.is_answered(0));
        image.serve(fixture, 1);
        CHECK(image.seen.back().type == kCmdFlush);
      }
      CHECK(fixture.result_of(0) >= 0);
    }
    CHECK(logged.log->sequence() == 0);
    fixture.adapter().stop();
    CHECK(fixture.next_request().type == kCmdDisc);
  }
}

TEST_MAIN()
