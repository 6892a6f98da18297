// Owns: the claims about what a queue sends after a resume: everything that was not answered, once
// more, in order, as the new connection wants it.
// Runs on the test's thread.
// Must not: judge how long requests wait (nbd_hold_test.cc) or the unflushed log
// (nbd_unflushed_test.cc).
#include <array>

#include "test/nbd_image.h"

using namespace nbd_test;

namespace {

constexpr int64_t kForever = unbd::NbdDeviceConfig::kForever;
constexpr size_t kImageBytes = 1 << 18;
constexpr uint64_t kOffset = 8192;

struct Case {
  const char* name;
  Op op;
  uint32_t length;
  bool fua;
};
constexpr Case kCases[] = {
    {"READ", Op::kRead, 512, false},          {"large READ", Op::kRead, 65536, false},
    {"WRITE", Op::kWrite, 512, false},        {"WRITE with FUA", Op::kWrite, 512, true},
    {"FLUSH", Op::kFlush, 0, false},          {"TRIM", Op::kDiscard, 4096, false},
    {"ZEROES", Op::kWriteZeroes, 4096, true},
};

Fixture::Options away_for_ever(bool structured) {
  return {.structured = structured, .reconnect_delay_ms = kForever};
}

Request request_of(Fixture& fixture, const Case& kind) {
  const bool is_flush = kind.op == Op::kFlush;
  Request request = fixture.request(kind.op, 0, is_flush ? 0 : kOffset, kind.length);
  request.fua = kind.fua;
  // Other bytes than the image's.
  if (kind.op == Op::kWrite) fixture.fill_buffer(0, kOffset + 77, kind.length);
  return request;
}

void lose(Fixture& fixture) {
  const size_t before = fixture.events.size();
  fixture.close_backend();
  REQUIRE(fixture.turn_until([&] { return fixture.events.size() > before; }));
}

void resume(Fixture& fixture, Fixture::Options agreed) {
  static uint16_t epoch = 100;
  agreed.epoch = ++epoch;
  fixture.resume(agreed);
  fixture.settle();
}

// The request of tag 0 has done what it should, and so has the READ of 512 bytes of tag 1.
void expect_done(Fixture& fixture, const Case& kind, const Image& image) {
  const bool has_data = kind.op == Op::kRead || kind.op == Op::kWrite;
  CHECK(fixture.result_of(0) == (has_data ? static_cast<int32_t>(kind.length) : 0));
  CHECK(fixture.result_of(1) == 512);
  if (has_data) CHECK(image.holds(kOffset, fixture.buffer(0), kind.length));
  CHECK(image.holds(0, fixture.buffer(1), 512));
  CHECK(fixture.count_events("resumed") == 1 && fixture.events.size() == 2);
}

// True while cut is within the reply. The old backend has done what it was asked.
bool cut_in_reply(const Case& kind, bool structured, size_t cut) {
  Fixture fixture(away_for_ever(structured));
  Image image(kImageBytes);
  fixture.submit({request_of(fixture, kind), fixture.request(Op::kRead, 1, 0, 512)});
  const Sent first = image.take(fixture);
  const Bytes reply = image.reply_to(first, structured);
  if (cut >= reply.size()) return false;
  image.take(fixture);
  fixture.reply(reply.data(), cut);
  if (cut % 2 == 0) fixture.settle();
  lose(fixture);
  REQUIRE(fixture.answered() == 0);
  // A half-received reply leaves no trace in the buffer of a READ.
  const bool other = cut % 3 == 0 ? !structured : structured;
  resume(fixture, {.structured = other});
  image.serve(fixture, 2, other);
  REQUIRE(image.seen[2].type == first.type && image.seen[2].flags == first.flags);
  REQUIRE(image.seen[2].cookie != first.cookie);
  expect_done(fixture, kind, image);
  return true;
}

// Of a long reply only the ends and some of the rest.
size_t next_cut(size_t cut, size_t length) {
  return length < 1024 || cut < 64 || cut % 32768 < 64 ? cut + 1 : cut + 997;
}

bool cut_in_request(const Case& kind, size_t cut) {
  Fixture fixture(away_for_ever(false));
  Image image(kImageBytes);
  const Request request = request_of(fixture, kind);
  const size_t length = kRequestBytes + (kind.op == Op::kWrite ? kind.length : 0);
  fixture.transport_log.send_bytes_max = cut;
  if (cut > length) return false;
  fixture.submit({request, fixture.request(Op::kRead, 1, 0, 512)});
  fixture.next_bytes(cut);
  lose(fixture);
  fixture.transport_log.send_bytes_max = SIZE_MAX;
  resume(fixture, {});
  image.serve(fixture, 2);
  REQUIRE(!fixture.backend_has_bytes());
  expect_done(fixture, kind, image);
  return true;
}

}  // namespace

TEST("cut at any byte of a reply, every request is done once more and completed once") {
  for (const Case& kind : kCases) {
    for (const bool structured : {false, true}) {
      for (size_t cut = 0; cut_in_reply(kind, structured, cut);
           cut = next_cut(cut, kind.op == Op::kRead ? kind.length : 0)) {
        if (!unbd::test::failed) continue;
        std::printf("# %s, structured %d, cut at byte %zu\n", kind.name, structured, cut);
        return;
      }
    }
  }
}

TEST("cut at any byte of a request, it is sent again from its first byte") {
  for (const Case& kind : kCases) {
    for (size_t cut = 0; cut_in_request(kind, cut); ++cut) {
      if (!unbd::test::failed) continue;
      std::printf("# %s, cut at byte %zu\n", kind.name, cut);
      return;
    }
  }
}

TEST("a reply that was half there is taken from its beginning on the next connection") {
  Fixture fixture(away_for_ever(false));
  Image image(kImageBytes);
  fixture.submit(
      {fixture.request(Op::kRead, 0, kOffset, 65536), fixture.request(Op::kRead, 1, 0, 512)});
  const Sent sent = image.take(fixture);
  image.take(fixture);
  Bytes garbage;
  garbage.resize(30'000);
  fixture.reply(simple(sent.cookie).add(garbage));
  fixture.settle();
  // More of it, which is not taken any more.
  fixture.reply(garbage);
  fixture.hold();
  fixture.resume({.epoch = 7});
  // Not before the old connection has nothing in flight on the ring.
  CHECK(!fixture.backend_has_bytes());
  fixture.settle();
  CHECK(fixture.backend_has_bytes());
  image.serve(fixture, 2);
  CHECK(fixture.result_of(0) == 65536 && fixture.result_of(1) == 512);
  CHECK(image.holds(kOffset, fixture.buffer(0), 65536));
}

TEST("requests are sent again in the order of their submission, then what came meanwhile") {
  Fixture fixture(away_for_ever(false));
  Image image(kImageBytes);
  std::vector<Request> batch;
  for (const uint16_t tag : std::array<uint16_t, 6>{9, 3, 17, 5, 30, 4})
    batch.push_back(fixture.request(Op::kRead, tag, tag * 512U, 512));
  fixture.submit(batch);
  std::vector<Sent> sent;
  for (size_t count = 0; count < batch.size(); ++count)
    sent.push_back(image.take(fixture));
  for (size_t answered : {2, 4})
    fixture.reply(image.reply_to(sent[answered], false));
  CHECK(fixture.result_of(17) == 512 && fixture.result_of(30) == 512);
  // A tag that is used again is a later request.
  fixture.submit(fixture.request(Op::kRead, 17, 17 * 512, 512));
  lose(fixture);
  fixture.submit(fixture.request(Op::kRead, 0, 0, 512));
  for (int losses = 0; losses < 3; ++losses) {
    resume(fixture, {});
    lose(fixture);
  }
  fixture.submit(fixture.request(Op::kRead, 2, 1024, 512));
  resume(fixture, {});
  image.seen.clear();
  image.serve(fixture, 7);
  const uint64_t expected[] = {9, 3, 5, 4, 17, 0, 2};
  for (size_t index = 0; index < 7; ++index) {
    CHECK(image.seen[index].offset == expected[index] * 512);
    CHECK(fixture.result_of(static_cast<int>(expected[index])) == 512);
  }
  CHECK(!fixture.backend_has_bytes());
  // The last one was never sent before.
  CHECK(fixture.events.back().text == "6");
}

TEST("a resume while connected moves to the newer connection") {
  Fixture fixture({.reconnect_delay_ms = 0});
  Image image(kImageBytes);
  fixture.submit(fixture.request(Op::kRead, 0, kOffset, 512));
  fixture.next_request();
  resume(fixture, {});
  fixture.next_request();
  resume(fixture, {});
  image.serve(fixture, 1);
  CHECK(fixture.result_of(0) == 512 && fixture.count_events("resumed") == 2);
  CHECK(fixture.events.size() == 2);
}

TEST("of two resumes before the old connection is idle the later one holds") {
  Fixture fixture(away_for_ever(false));
  Image image(kImageBytes);
  fixture.submit(fixture.request(Op::kRead, 0, kOffset, 512));
  fixture.hold();
  fixture.resume({.epoch = 2});
  fixture.resume({.epoch = 3});
  fixture.settle();
  image.serve(fixture, 1);
  CHECK(fixture.result_of(0) == 512 && fixture.count_events("resumed") == 1);
  CHECK(image.seen[0].cookie >> 48 == 3);
}

TEST("requests are split anew at the new connection's maximum") {
  const uint32_t maxima[] = {4096, 65536, unbd::NbdAgreement::kNoMaximum, 5000, 1 << 15};
  Fixture fixture(away_for_ever(false));
  Image image(kImageBytes);
  const Request write = fixture.request(Op::kWrite, 0, kOffset, 65536);
  fixture.fill_buffer(0, 1, 65536);
  fixture.submit({write, fixture.request(Op::kRead, 1, 0, 65536)});
  for (const uint32_t maximum : maxima) {
    lose(fixture);
    resume(fixture, {.maximum_block_bytes = maximum, .minimum_block_bytes = 512});
    const uint32_t part = std::min(maximum / 512 * 512, 65536U);
    const uint32_t parts = (65536 + part - 1) / part;
    const bool answers_all = maximum == maxima[4];
    for (uint32_t count = 0; count < 2 * parts; ++count) {
      const Sent sent = image.take(fixture);
      CHECK(sent.type == (count < parts ? kCmdWrite : kCmdRead));
      CHECK(sent.length == std::min(part, 65536 - count % parts * part));
      if (answers_all || (parts > 1 && count % 2 == 1)) fixture.reply(image.reply_to(sent, false));
    }
    CHECK(!fixture.backend_has_bytes());
    fixture.settle();
    CHECK(fixture.answered() == (answers_all ? 2 : 0));
  }
  CHECK(fixture.result_of(0) == 65536 && fixture.result_of(1) == 65536);
  CHECK(image.holds(kOffset, fixture.buffer(0), 65536));
  CHECK(image.holds(0, fixture.buffer(1), 65536));
}

TEST("a part that was answered on the old connection is asked for again with the others") {
  Fixture fixture({.maximum_block_bytes = 4096, .reconnect_delay_ms = kForever});
  Image image(kImageBytes);
  fixture.submit(fixture.request(Op::kRead, 0, kOffset, 3 * 4096));
  image.serve(fixture, 2);
  fixture.settle();
  lose(fixture);
  resume(fixture, {.maximum_block_bytes = 4096});
  image.seen.clear();
  image.serve(fixture, 3);
  CHECK(image.seen[0].offset == kOffset);
  CHECK(fixture.result_of(0) == 3 * 4096);
  CHECK(image.holds(kOffset, fixture.buffer(0), 3 * 4096));
}

TEST("FUA that the new backend lacks becomes a FLUSH, and the other way round") {
  for (const bool had : {false, true}) {
    Fixture fixture({.can_fua = had, .reconnect_delay_ms = kForever});
    Image image(kImageBytes);
    Request write = fixture.request(Op::kWrite, 0, kOffset, 512);
    write.fua = true;
    fixture.submit(write);
    const Sent first = image.take(fixture);
    CHECK((first.flags == kFlagFua) == had);
    if (!had) {
      fixture.reply(image.reply_to(first, false));
      CHECK(image.take(fixture).type == kCmdFlush);
    }
    lose(fixture);
    resume(fixture, {.can_fua = !had});
    const Sent second = image.take(fixture);
    CHECK(second.type == kCmdWrite && (second.flags == kFlagFua) == !had);
    fixture.reply(image.reply_to(second, false));
    if (had) {
      fixture.settle();
      CHECK(!fixture.is_answered(0));
      const Sent flush = image.take(fixture);
      CHECK(flush.type == kCmdFlush);
      fixture.reply(simple(flush.cookie));
    }
    CHECK(fixture.result_of(0) == 512);
  }
}

TEST("what the new backend cannot do any more is answered here") {
  Fixture fixture(away_for_ever(false));
  fixture.submit({fixture.request(Op::kDiscard, 0, 0, 512),
                  fixture.request(Op::kWriteZeroes, 1, 0, 512),
                  fixture.request(Op::kFlush, 2, 0, 0)});
  fixture.next_bytes(3 * kRequestBytes);
  lose(fixture);
  resume(fixture, {.can_flush = false, .can_trim = false, .can_write_zeroes = false});
  CHECK(fixture.result_of(0) == -EOPNOTSUPP && fixture.result_of(1) == -EOPNOTSUPP);
  CHECK(fixture.result_of(2) == 0 && !fixture.backend_has_bytes());
}

TEST("a reply to the old connection's request is a violation on the new one") {
  Fixture fixture(away_for_ever(false));
  fixture.submit(fixture.request(Op::kFlush, 0, 0, 0));
  const uint64_t earlier = fixture.next_request().cookie;
  lose(fixture);
  resume(fixture, {});
  CHECK(fixture.next_request().cookie != earlier);
  fixture.reply(simple(earlier));
  CHECK(fixture.turn_until([&] { return fixture.count_events("protocol-violation") == 1; }));
  CHECK(!fixture.is_answered(0));
}

TEST_MAIN()
