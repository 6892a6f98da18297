// Owns: the claims about FLUSH and FUA where unflushed writes are not kept: after a loss that may
// have cost some, the program that asks for durability hears of it, and no other.
// Runs on the test's thread.
// Must not: judge where a log keeps them; that is nbd_unflushed_test.cc.
#include "test/nbd_image.h"

using namespace nbd_test;
using unbd::Unflushed;

namespace {

constexpr int64_t kForever = unbd::NbdDeviceConfig::kForever;

Fixture::Options options(Unflushed unflushed = Unflushed::kFailFlush) {
  return {.reconnect_delay_ms = kForever, .unflushed = unflushed};
}

int32_t run(Fixture& fixture, Image& image, Op op, bool fua = false) {
  Request request = fixture.request(op, 40, 0, op == Op::kFlush ? 0 : 512);
  request.fua = fua;
  fixture.submit(request);
  fixture.settle();
  if (!fixture.is_answered(40)) image.serve(fixture, 1);
  return fixture.result_of(40);
}

void lose(Fixture& fixture) {
  const size_t before = fixture.events.size();
  fixture.close_backend();
  REQUIRE(fixture.turn_until([&] { return fixture.events.size() > before; }));
}

void come_back(Fixture& fixture) {
  fixture.resume({});
  fixture.settle();
}

}  // namespace

TEST("after a loss with unflushed writes the next FLUSH fails, once, and nothing else does") {
  Fixture fixture(options());
  Image image(4096);
  CHECK(run(fixture, image, Op::kWrite) == 512);
  lose(fixture);
  come_back(fixture);
  CHECK(run(fixture, image, Op::kRead) == 512 && run(fixture, image, Op::kWrite) == 512);
  CHECK(run(fixture, image, Op::kFlush) == -EIO);
  CHECK(run(fixture, image, Op::kFlush) == 0 && run(fixture, image, Op::kWrite, true) == 512);
  // What was told is not told again; what was flushed is not in doubt.
  lose(fixture);
  come_back(fixture);
  CHECK(run(fixture, image, Op::kFlush) == 0);
}

TEST("a write with FUA takes the blame as well as a FLUSH, and is not sent") {
  Fixture fixture(options());
  Image image(4096);
  CHECK(run(fixture, image, Op::kWriteZeroes) == 0);
  lose(fixture);
  // It comes in the hold, so it was not in flight at the loss.
  Request write = fixture.request(Op::kWrite, 1, 0, 512);
  write.fua = true;
  fixture.submit(write);
  come_back(fixture);
  CHECK(fixture.result_of(1) == -EIO && !fixture.backend_has_bytes());
  CHECK(run(fixture, image, Op::kFlush) == 0);
}

TEST("every FLUSH and FUA in flight at the loss fails, and the first one after it too") {
  Fixture fixture(options());
  Image image(4096);
  CHECK(run(fixture, image, Op::kDiscard) == 0);
  Request durable = fixture.request(Op::kWrite, 2, 0, 512);
  durable.fua = true;
  fixture.submit({fixture.request(Op::kFlush, 0, 0, 0), fixture.request(Op::kFlush, 1, 0, 0),
                  durable, fixture.request(Op::kWrite, 3, 512, 512),
                  fixture.request(Op::kRead, 4, 0, 512)});
  fixture.settle();
  lose(fixture);
  CHECK(fixture.answered() == 1);
  come_back(fixture);
  for (int tag : {0, 1, 2})
    CHECK(fixture.is_answered(tag) && fixture.result_of(tag) == -EIO);
  image.serve(fixture, 2);
  CHECK(fixture.result_of(3) == 512 && fixture.result_of(4) == 512);
  CHECK(fixture.events.back().text == "2");
  CHECK(run(fixture, image, Op::kFlush) == -EIO && run(fixture, image, Op::kFlush) == 0);
}

TEST("without unflushed writes a loss fails nothing") {
  for (const bool wrote : {false, true}) {
    Fixture fixture(options());
    Image image(4096);
    if (wrote) {
      CHECK(run(fixture, image, Op::kWrite) == 512 && run(fixture, image, Op::kFlush) == 0);
      CHECK(run(fixture, image, Op::kWrite, true) == 512);
    }
    fixture.submit(fixture.request(Op::kFlush, 0, 0, 0));
    fixture.settle();
    lose(fixture);
    come_back(fixture);
    image.serve(fixture, 1);
    CHECK(fixture.result_of(0) == 0);
  }
}

TEST("durable writes are never in doubt, with FUA and without") {
  for (const bool can_fua : {false, true}) {
    Fixture::Options durable = options();
    durable.can_fua = can_fua;
    durable.durable_writes = true;
    Fixture fixture(durable);
    Image image(4096);
    fixture.submit(fixture.request(Op::kWrite, 0, 0, 512));
    image.serve(fixture, can_fua ? 1 : 2);
    CHECK(fixture.result_of(0) == 512);
    lose(fixture);
    come_back(fixture);
    CHECK(run(fixture, image, Op::kFlush) == 0);
  }
}

TEST("a backend that promises durability by having no FLUSH is believed") {
  Fixture::Options no_flush = options();
  no_flush.can_flush = false;
  no_flush.can_fua = false;
  Fixture fixture(no_flush);
  Image image(4096);
  CHECK(run(fixture, image, Op::kWrite) == 512);
  lose(fixture);
  come_back(fixture);
  CHECK(run(fixture, image, Op::kFlush) == 0);
}

TEST("the doubt outlives an expired hold and a second loss") {
  Fixture::Options at_once = options();
  at_once.reconnect_delay_ms = 0;
  Fixture fixture(at_once);
  Image image(4096);
  CHECK(run(fixture, image, Op::kWrite) == 512);
  lose(fixture);
  CHECK(run(fixture, image, Op::kFlush) == -EIO);
  come_back(fixture);
  lose(fixture);
  come_back(fixture);
  CHECK(run(fixture, image, Op::kFlush) == -EIO && run(fixture, image, Op::kFlush) == 0);
}

TEST("a successor that is told of a doubt passes it on") {
  Fixture::Options successor = options();
  successor.starts_connected = false;
  successor.in_doubt = true;
  Fixture fixture(successor);
  Image image(4096);
  come_back(fixture);
  CHECK(run(fixture, image, Op::kRead) == 512);
  CHECK(run(fixture, image, Op::kFlush) == -EIO && run(fixture, image, Op::kFlush) == 0);
}

TEST("the queues of a device share the doubt: all FLUSHes in flight fail, then one more") {
  Fixture first(options());
  Fixture::Options other = options();
  other.device = first.device();
  Fixture second(other);
  Image image(4096);
  CHECK(run(first, image, Op::kWrite) == 512);
  // A FLUSH of one queue covers the other's writes.
  CHECK(run(second, image, Op::kFlush) == 0);
  lose(first);
  second.hold();
  come_back(first);
  come_back(second);
  CHECK(run(first, image, Op::kFlush) == 0);

  CHECK(run(first, image, Op::kWrite) == 512);
  second.submit(second.request(Op::kFlush, 0, 0, 0));
  second.settle();
  lose(first);
  second.hold();
  // The first queue's FLUSH takes the blame before the second one is back.
  come_back(first);
  CHECK(run(first, image, Op::kFlush) == -EIO && run(first, image, Op::kFlush) == 0);
  come_back(second);
  CHECK(second.result_of(0) == -EIO);
  CHECK(run(second, image, Op::kFlush) == 0);
}

TEST("a backend that is trusted is not doubted") {
  Fixture fixture(options(Unflushed::kTrust));
  Image image(4096);
  CHECK(run(fixture, image, Op::kWrite) == 512);
  fixture.submit(fixture.request(Op::kFlush, 0, 0, 0));
  fixture.settle();
  lose(fixture);
  come_back(fixture);
  image.serve(fixture, 1);
  CHECK(fixture.result_of(0) == 0);
}

TEST_MAIN()
