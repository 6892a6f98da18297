// Owns: the claims about a queue without its backend: what waits, for how long, what fails then,
// and how it ends.
// Runs on the test's thread.
// Must not: judge what is sent after a resume; that is nbd_resume_test.cc.
#include <functional>

#include "base/clock.h"
#include "test/nbd_image.h"

using namespace nbd_test;
using State = unbd::NbdDevice::State;

namespace {

constexpr int64_t kForever = unbd::NbdDeviceConfig::kForever;

// Turns for so long, whatever comes.
void pass(Fixture& fixture, uint64_t milliseconds) {
  for (const uint64_t end_ms = unbd::monotonic_ms() + milliseconds; unbd::monotonic_ms() < end_ms;)
    fixture.turn(5);
}

// One read, one write, one FLUSH: sent, and not answered.
void send_three(Fixture& fixture) {
  fixture.submit({fixture.request(Op::kRead, 0, 0, 512), fixture.request(Op::kWrite, 1, 0, 512),
                  fixture.request(Op::kFlush, 2, 0, 0)});
  fixture.next_bytes(3 * kRequestBytes + 512);
}

void lose(Fixture& fixture) {
  const size_t before = fixture.events.size();
  fixture.close_backend();
  REQUIRE(fixture.turn_until([&] { return fixture.events.size() > before; }));
}

}  // namespace

TEST("a lost connection holds what is in flight and what comes") {
  const std::pair<const char*, std::function<void(Fixture&)>> losses[] = {
      {"backend-lost", [](Fixture& fixture) { fixture.close_backend(); }},
      {"backend-lost", [](Fixture& fixture) { fixture.half_close_backend(); }},
      {"protocol-violation", [](Fixture& fixture) { fixture.reply(simple(99)); }},
  };
  for (const auto& [kind, lose_by] : losses) {
    Fixture fixture({.reconnect_delay_ms = kForever});
    CHECK(fixture.device()->state() == State::kConnected);
    send_three(fixture);
    lose_by(fixture);
    CHECK(fixture.turn_until([&] { return !fixture.events.empty(); }));
    fixture.submit(fixture.request(Op::kRead, 3, 0, 512));
    fixture.settle();
    CHECK(fixture.answered() == 0 && fixture.device()->state() == State::kHolding);
    CHECK(fixture.events.size() == 1 && fixture.events[0].kind == kind);
    CHECK(!fixture.adapter().stopped());
    fixture.resume({});
    fixture.settle();
    Image(4096).serve(fixture, 4);
    CHECK(fixture.result_of(0) == 512 && fixture.result_of(1) == 512);
    CHECK(fixture.result_of(2) == 0 && fixture.result_of(3) == 512);
    CHECK(fixture.events.size() == 2 && fixture.events[1].kind == "resumed");
    CHECK(fixture.events[1].text == "3" && fixture.device()->replayed_requests() == 3);
    CHECK(fixture.device()->state() == State::kConnected);
  }
}

TEST("a hold from outside cuts the connection and is no loss") {
  Fixture fixture({.reconnect_delay_ms = kForever});
  send_three(fixture);
  fixture.hold();
  CHECK(fixture.device()->state() == State::kHolding);
  CHECK(fixture.backend_sees_end());
  CHECK(!fixture.transport_log.closes_gracefully);
  fixture.hold();
  fixture.settle();
  CHECK(fixture.answered() == 0 && fixture.events.empty());
  fixture.resume({});
  fixture.settle();
  Image(4096).serve(fixture, 3);
  CHECK(fixture.result_of(2) == 0);
}

TEST("what the backend says after a hold is not taken") {
  Fixture fixture({.reconnect_delay_ms = kForever});
  fixture.submit(fixture.request(Op::kFlush, 0, 0, 0));
  const uint64_t cookie = fixture.next_request().cookie;
  fixture.reply(simple(cookie));
  fixture.hold();
  fixture.settle();
  CHECK(!fixture.is_answered(0));
}

TEST("at the deadline everything that waits fails, and what comes fails until a resume") {
  Fixture fixture({.reconnect_delay_ms = 2000});
  send_three(fixture);
  const uint64_t begin_ms = unbd::monotonic_ms();
  lose(fixture);
  fixture.submit(fixture.request(Op::kRead, 3, 0, 512));
  for (int tag : {0, 1, 2, 3})
    CHECK(fixture.result_of(tag) == -EIO);
  CHECK(unbd::monotonic_ms() - begin_ms >= 2000);
  CHECK(fixture.count_events("hold-expired") == 1);
  CHECK(fixture.device()->state() == State::kFailing);
  fixture.submit(fixture.request(Op::kRead, 3, 0, 512));
  CHECK(fixture.is_answered(3) && fixture.result_of(3) == -EIO);
  // A further hold does not make it wait again.
  fixture.hold();
  fixture.submit(fixture.request(Op::kRead, 3, 0, 512));
  CHECK(fixture.is_answered(3));

  Image image(4096);
  fixture.resume({});
  fixture.submit(fixture.request(Op::kRead, 3, 0, 512));
  fixture.settle();
  image.serve(fixture, 1);
  CHECK(fixture.result_of(3) == 512 && fixture.events.back().text == "0");
  // The next loss has all of its time again.
  lose(fixture);
  fixture.submit(fixture.request(Op::kRead, 3, 0, 512));
  pass(fixture, 10);
  CHECK(!fixture.is_answered(3));
  CHECK(fixture.result_of(3) == -EIO && fixture.count_events("hold-expired") == 2);
}

TEST("a resume ends the wait for the deadline") {
  Fixture fixture({.reconnect_delay_ms = 4000});
  lose(fixture);
  pass(fixture, 2500);
  fixture.resume({});
  fixture.settle();
  lose(fixture);
  fixture.submit(fixture.request(Op::kFlush, 0, 0, 0));
  pass(fixture, 2500);
  CHECK(fixture.count_events("hold-expired") == 0 && !fixture.is_answered(0));
  CHECK(fixture.result_of(0) == -EIO);
}

TEST("without a delay a loss fails at once, and a resume is still possible") {
  Fixture fixture;
  send_three(fixture);
  lose(fixture);
  CHECK(fixture.answered() == 3 && fixture.device()->state() == State::kFailing);
  fixture.forget_results();
  fixture.resume({});
  fixture.settle();
  send_three(fixture);
  fixture.hold();
  CHECK(fixture.answered() == 3 && fixture.result_of(1) == -EIO);
}

TEST("fail_all in a hold ends everything, for ever") {
  Fixture fixture({.reconnect_delay_ms = kForever});
  send_three(fixture);
  lose(fixture);
  fixture.submit(fixture.request(Op::kRead, 3, 0, 512));
  fixture.adapter().fail_all(ENODEV);
  for (int tag : {0, 1, 2, 3})
    CHECK(fixture.is_answered(tag) && fixture.result_of(tag) == -ENODEV);
  CHECK(fixture.device()->state() == State::kFatal);
  fixture.resume({});
  CHECK(fixture.backend_sees_end());
  fixture.submit(fixture.request(Op::kRead, 3, 0, 512));
  CHECK(fixture.is_answered(3) && fixture.result_of(3) == -ENODEV);
  CHECK(fixture.count_events("resumed") == 0);
  CHECK(fixture.turn_until([&] { return fixture.adapter().stopped(); }));
}

TEST("fail_all takes back a resume that waits for the old connection") {
  Fixture fixture({.reconnect_delay_ms = kForever});
  fixture.hold();
  fixture.resume({});
  fixture.adapter().fail_all(EIO);
  CHECK(fixture.backend_sees_end());
  CHECK(fixture.turn_until([&] { return fixture.adapter().stopped(); }));
  CHECK(fixture.count_events("resumed") == 0);
}

TEST("stop in a hold ends at once, and tells of writes that may be lost") {
  for (const bool wrote : {false, true}) {
    for (const int64_t delay_ms : {kForever, int64_t{60'000}, int64_t{0}}) {
      Fixture fixture({.reconnect_delay_ms = delay_ms});
      if (wrote) {
        fixture.submit(fixture.request(Op::kWrite, 0, 0, 512));
        Image(4096).serve(fixture, 1);
        CHECK(fixture.result_of(0) == 512);
      }
      lose(fixture);
      const uint64_t begin_ms = unbd::monotonic_ms();
      fixture.adapter().stop();
      fixture.resume({});
      CHECK(fixture.turn_until([&] { return fixture.adapter().stopped(); }));
      CHECK(unbd::monotonic_ms() - begin_ms < kPatienceMs / 2);
      CHECK(fixture.count_events("warning") == (wrote ? 1 : 0));
      CHECK(fixture.count_events("resumed") == 0);
    }
  }
}

TEST("a loss during the goodbye is no reason to hold") {
  for (const bool wrote : {false, true}) {
    Fixture fixture({.reconnect_delay_ms = kForever});
    if (wrote) {
      fixture.submit(fixture.request(Op::kWrite, 0, 0, 512));
      Image(4096).serve(fixture, 1);
      CHECK(fixture.result_of(0) == 512);
    }
    fixture.adapter().stop();
    fixture.next_request();
    fixture.hold();
    CHECK(fixture.turn_until([&] { return fixture.adapter().stopped(); }));
  }
}

TEST("a device that starts without a connection holds until it gets one") {
  for (const int64_t first_ms : {kForever, int64_t{2000}, int64_t{0}}) {
    Fixture fixture(
        {.reconnect_delay_ms = 60'000, .first_hold_ms = first_ms, .starts_connected = false});
    fixture.submit(fixture.request(Op::kRead, 0, 0, 512));
    CHECK(fixture.is_answered(0) == (first_ms == 0));
    if (first_ms >= 0) {
      CHECK(fixture.result_of(0) == -EIO);
      CHECK(fixture.count_events("hold-expired") == (first_ms > 0 ? 1 : 0));
      fixture.submit(fixture.request(Op::kRead, 0, 0, 512));
      CHECK(fixture.is_answered(0));
    }
    fixture.resume({});
    if (first_ms >= 0) fixture.submit(fixture.request(Op::kRead, 0, 0, 512));
    Image(4096).serve(fixture, 1);
    CHECK(fixture.result_of(0) == 512);
    // What a predecessor wrote is not known here; so the end flushes.
    fixture.adapter().stop();
    CHECK(fixture.next_request().type == kCmdFlush);
  }
}

TEST("writes that may not be sent twice fail at the loss; reads and flushes wait") {
  Fixture fixture({.reconnect_delay_ms = kForever, .resend_writes = false});
  fixture.submit({fixture.request(Op::kWrite, 0, 0, 512), fixture.request(Op::kRead, 1, 0, 512),
                  fixture.request(Op::kDiscard, 2, 0, 512), fixture.request(Op::kFlush, 3, 0, 0),
                  fixture.request(Op::kWriteZeroes, 4, 0, 512)});
  fixture.next_request();
  lose(fixture);
  for (int tag : {0, 2, 4})
    CHECK(fixture.is_answered(tag) && fixture.result_of(tag) == -EIO);
  CHECK(fixture.answered() == 3);
  // A write that comes in the hold was never sent.
  fixture.submit(fixture.request(Op::kWrite, 0, 0, 512));
  CHECK(!fixture.is_answered(0));
  fixture.resume({});
  fixture.settle();
  Image image(4096);
  image.serve(fixture, 3);
  CHECK(image.seen[0].type == kCmdRead && image.seen[1].type == kCmdFlush);
  CHECK(image.seen[2].type == kCmdWrite);
  CHECK(fixture.result_of(1) == 512 && fixture.result_of(3) == 0 && fixture.result_of(0) == 512);
}

TEST("a request that grows too old loses the connection") {
  Fixture fixture({.reconnect_delay_ms = kForever, .request_timeout_ms = 2000});
  const uint64_t begin_ms = unbd::monotonic_ms();
  fixture.submit(fixture.request(Op::kRead, 0, 8192, 4096));
  CHECK(fixture.turn_until([&] { return !fixture.events.empty(); }));
  CHECK(unbd::monotonic_ms() - begin_ms >= 2000);
  CHECK(fixture.events[0].kind == "backend-lost");
  CHECK(fixture.events[0].text ==
        "the backend has not answered a READ of 4096 bytes at offset 8192 for 2 s "
        "(--request-timeout)");
  // The hold does not make it older.
  pass(fixture, 2400);
  fixture.resume({});
  pass(fixture, 100);
  CHECK(fixture.count_events("backend-lost") == 1);
  Image(1 << 16).serve(fixture, 1);
  CHECK(fixture.result_of(0) == 4096);
}

TEST("requests that are answered in time do not age, however many there are") {
  Fixture fixture({.request_timeout_ms = 2000});
  Image image(4096);
  for (int round = 0; round < 8; ++round) {
    fixture.submit(fixture.request(Op::kRead, static_cast<uint16_t>(round % 2), 0, 512));
    pass(fixture, 500);
    image.serve(fixture, 1);
    CHECK(fixture.result_of(round % 2) == 512);
  }
  // Idleness is no age either, and no clock runs in it.
  pass(fixture, 2500);
  fixture.submit(fixture.request(Op::kFlush, 5, 0, 0));
  pass(fixture, 100);
  image.serve(fixture, 1);
  CHECK(fixture.result_of(5) == 0 && fixture.events.empty());
  fixture.adapter().stop();
  CHECK(fixture.next_request().type == kCmdDisc);
  fixture.close_backend();
  CHECK(fixture.turn_until([&] { return fixture.adapter().stopped(); }));
}

TEST_MAIN()
