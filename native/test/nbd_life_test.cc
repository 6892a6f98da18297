// Owns: the claims about the end of a connection: goodbye, loss, and "fail all now".
// Runs on the test's thread.
// Must not: judge what breaks the protocol; that is nbd_hostile_test.cc.
#include <functional>

#include "test/nbd_fixture.h"

using namespace nbd_test;

namespace {

void do_write(Fixture& fixture, bool fua) {
  Request write = fixture.request(Op::kWrite, 0, 0, 512);
  write.fua = fua;
  fixture.submit(write);
  const uint64_t cookie = fixture.next_request().cookie;
  fixture.next_bytes(512);
  fixture.reply(simple(cookie));
  REQUIRE(fixture.result_of(0) == 512);
}

// After DISC, which is what came last, the stream ends on both sides.
void expect_goodbye(Fixture& fixture) {
  REQUIRE(fixture.next_request().type == kCmdDisc);
  REQUIRE(fixture.backend_sees_end());
  CHECK(fixture.transport_log.closes_gracefully);
  CHECK(!fixture.adapter().stopped());
  fixture.close_backend();
  REQUIRE(fixture.turn_until([&] { return fixture.adapter().stopped(); }));
}

}  // namespace

TEST("stop without writes says DISC and waits for the end") {
  Fixture fixture;
  fixture.submit(fixture.request(Op::kRead, 0, 0, 512));
  fixture.reply(simple(fixture.next_request().cookie).add(pattern(0, 512)));
  CHECK(fixture.result_of(0) == 512);
  fixture.adapter().stop();
  expect_goodbye(fixture);
  CHECK(fixture.events.empty());
}

TEST("stop after a write flushes first") {
  Fixture fixture;
  do_write(fixture, false);
  fixture.adapter().stop();
  const Sent flush = fixture.next_request();
  CHECK(flush.type == kCmdFlush);
  fixture.settle();
  CHECK(!fixture.backend_has_bytes());
  fixture.reply(simple(flush.cookie));
  expect_goodbye(fixture);
  CHECK(fixture.events.empty());
  CHECK(fixture.answered() == 1);
}

TEST("stop does not flush what is durable") {
  Fixture fixture;
  do_write(fixture, true);
  do_write(fixture, false);
  fixture.submit(fixture.request(Op::kFlush, 1, 0, 0));
  fixture.reply(simple(fixture.next_request().cookie));
  CHECK(fixture.result_of(1) == 0);
  fixture.adapter().stop();
  expect_goodbye(fixture);
}

TEST("a failed flush does not make writes durable") {
  Fixture fixture;
  do_write(fixture, false);
  fixture.submit(fixture.request(Op::kFlush, 1, 0, 0));
  fixture.reply(simple(fixture.next_request().cookie, 5));
  CHECK(fixture.result_of(1) == -EIO);
  fixture.adapter().stop();
  const Sent flush = fixture.next_request();
  CHECK(flush.type == kCmdFlush);
  fixture.reply(simple(flush.cookie, 5));
  expect_goodbye(fixture);
  CHECK(fixture.events.size() == 1 && fixture.events[0].kind == "warning");
}

TEST("a write that ends after a flush was sent is not covered by it") {
  Fixture fixture;
  fixture.submit({fixture.request(Op::kFlush, 1, 0, 0), fixture.request(Op::kWrite, 2, 0, 512)});
  const uint64_t flush = fixture.next_request().cookie;
  const uint64_t write = fixture.next_request().cookie;
  fixture.next_bytes(512);
  fixture.reply(simple(write));
  fixture.reply(simple(flush));
  CHECK(fixture.result_of(1) == 0 && fixture.result_of(2) == 512);
  fixture.adapter().stop();
  const Sent last = fixture.next_request();
  CHECK(last.type == kCmdFlush);
  fixture.reply(simple(last.cookie));
  expect_goodbye(fixture);
}

TEST("a backend without FLUSH is not asked for one") {
  Fixture fixture({.can_flush = false});
  do_write(fixture, false);
  fixture.adapter().stop();
  expect_goodbye(fixture);
}

TEST("a goodbye that the backend ignores ends with fail_all") {
  for (const bool in_flush : {false, true}) {
    Fixture fixture;
    if (in_flush) do_write(fixture, false);
    fixture.adapter().stop();
    fixture.next_request();
    fixture.settle();
    CHECK(!fixture.adapter().stopped());
    fixture.adapter().fail_all(EIO);
    CHECK(fixture.turn_until([&] { return fixture.adapter().stopped(); }));
  }
}

TEST("a lost connection fails what is in flight and what comes") {
  const std::pair<const char*, std::function<void(Fixture&)>> losses[] = {
      {"the backend closed the connection", [](Fixture& fixture) { fixture.close_backend(); }},
      {"the backend closed the connection", [](Fixture& fixture) { fixture.half_close_backend(); }},
  };
  for (const auto& [text, lose] : losses) {
    Fixture fixture;
    fixture.submit({fixture.request(Op::kRead, 0, 0, 512), fixture.request(Op::kWrite, 1, 0, 512),
                    fixture.request(Op::kFlush, 2, 0, 0)});
    fixture.next_bytes(3 * kRequestBytes + 512);
    lose(fixture);
    for (int tag : {0, 1, 2})
      CHECK(fixture.result_of(tag) == -EIO);
    CHECK(fixture.events.size() == 1);
    CHECK(fixture.events[0].kind == "backend-lost");
    CHECK(fixture.events[0].text == text);
    CHECK(!fixture.transport_log.closes_gracefully);
    fixture.submit({fixture.request(Op::kRead, 0, 0, 512), fixture.request(Op::kFlush, 2, 0, 0)});
    CHECK(fixture.result_of(0) == -EIO && fixture.result_of(2) == -EIO);
    CHECK(fixture.events.size() == 1);
    fixture.adapter().stop();
    CHECK(fixture.turn_until([&] { return fixture.adapter().stopped(); }));
  }
}

TEST("an idle connection that ends is noticed") {
  Fixture fixture;
  fixture.close_backend();
  CHECK(fixture.turn_until([&] { return !fixture.events.empty(); }));
  CHECK(fixture.events[0].kind == "backend-lost");
}

TEST("a backend that shuts down loses the connection, not one request") {
  for (const bool structured : {false, true}) {
    Fixture fixture({.structured = structured});
    fixture.submit({fixture.request(Op::kRead, 0, 0, 512), fixture.request(Op::kFlush, 1, 0, 0)});
    const uint64_t cookie = fixture.next_request().cookie;
    fixture.reply(structured ? error_chunk(cookie, kDone, 108, "bye") : simple(cookie, 108));
    CHECK(fixture.result_of(0) == -EIO && fixture.result_of(1) == -EIO);
    CHECK(fixture.events.size() == 1 && fixture.events[0].kind == "backend-lost");
    CHECK(fixture.events[0].text == "the backend is shutting down");
  }
}

TEST("a connection that ends at any byte of a reply fails the read") {
  for (const bool structured : {false, true}) {
    for (size_t cut = 0;; ++cut) {
      Fixture fixture({.structured = structured});
      fixture.submit(fixture.request(Op::kRead, 0, 4096, 64));
      const uint64_t cookie = fixture.next_request().cookie;
      Bytes stream = structured
                         ? data_chunk(cookie, 0, 4096, pattern(4096, 64)).add(none_chunk(cookie))
                         : simple(cookie).add(pattern(4096, 64));
      if (cut >= stream.size()) break;
      fixture.reply(stream.data(), cut);
      fixture.close_backend();
      CHECK(fixture.result_of(0) == -EIO);
    }
  }
}

TEST("fail_all ends every request with its error, and later ones too") {
  Fixture fixture({.send_buffer_bytes = 1});
  std::vector<Request> batch;
  for (uint16_t tag = 0; tag < 16; ++tag)
    batch.push_back(fixture.request(tag % 2 == 0 ? Op::kRead : Op::kWrite, tag, 0, 65536));
  fixture.submit(batch);
  fixture.adapter().fail_all(ENODEV);
  for (uint16_t tag = 0; tag < 16; ++tag)
    CHECK(fixture.result_of(tag) == -ENODEV);
  fixture.submit(fixture.request(Op::kRead, 3, 0, 512));
  CHECK(fixture.result_of(3) == -ENODEV);
  CHECK(fixture.events.empty());
  CHECK(fixture.turn_until([&] { return fixture.adapter().stopped(); }));
}

TEST("a request whose reply is half there is failed at once, and its buffer left alone") {
  Fixture fixture;
  fixture.submit({fixture.request(Op::kRead, 0, 0, 65536), fixture.request(Op::kFlush, 1, 0, 0)});
  const uint64_t cookie = fixture.next_request().cookie;
  fixture.reply(simple(cookie).add(pattern(0, 100)));
  fixture.settle();
  // More of the payload, which is not taken any more.
  fixture.reply(pattern(100, 1000));
  fixture.adapter().fail_all(EIO);
  CHECK(fixture.is_answered(0) && fixture.result_of(0) == -EIO);
  CHECK(fixture.is_answered(1) && fixture.result_of(1) == -EIO);
  std::memset(fixture.buffer(0), 0, 65536);
  fixture.settle();
  CHECK(std::all_of(fixture.buffer(0), fixture.buffer(0) + 65536,
                    [](std::byte each) { return each == std::byte{0}; }));
}

TEST_MAIN()
