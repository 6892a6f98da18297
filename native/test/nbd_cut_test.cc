// Owns: the claim that a connection may be cut after any byte: of a request, or of a reply of any
// kind. What was answered before stays answered; the rest is sent again on the next connection and
// has its own result and bytes.
// Runs on the test's thread.
// Must not: leave a byte out: every position of every kind is tried.
#include <cstring>

#include "test/nbd_image.h"

using namespace nbd_test;
using State = unbd::NbdDevice::State;

namespace {

constexpr uint32_t kLength = 512;
constexpr uint64_t kBefore = 0;
constexpr uint64_t kOffset = 1024;
constexpr uint64_t kWritten = 7777;  // where the pattern that is written begins
constexpr size_t kImageBytes = 4096;

enum class Answer { kRight, kError, kHole };
struct Kind {
  Op op;
  bool structured;
  Answer answer = Answer::kRight;  // the one that is cut
};
constexpr Kind kKinds[] = {{Op::kRead, false},
                           {Op::kRead, true},
                           {Op::kWrite, false},
                           {Op::kWrite, true},
                           {Op::kFlush, false},
                           {Op::kFlush, true},
                           {Op::kWriteZeroes, true},
                           {Op::kDiscard, true},
                           {Op::kRead, true, Answer::kError},
                           {Op::kWrite, true, Answer::kError},
                           {Op::kRead, true, Answer::kHole}};

Bytes first_reply(const Kind& kind, const Image& image, const Sent& sent) {
  if (kind.answer == Answer::kError)
    return error_offset_chunk(sent.cookie, kDone, 5, "no luck", sent.offset);
  if (kind.answer == Answer::kHole) return hole_chunk(sent.cookie, kDone, sent.offset, sent.length);
  return image.reply_to(sent, kind.structured);
}

// A read that is in front of the request, and the request.
void submit_both(Fixture& fixture, Op op) {
  const bool is_flush = op == Op::kFlush;
  const Request request = fixture.request(op, 1, is_flush ? 0 : kOffset, is_flush ? 0 : kLength);
  if (op == Op::kWrite) fixture.fill_buffer(1, kWritten, kLength);
  fixture.submit({fixture.request(Op::kRead, 0, kBefore, kLength), request});
}

void check_request(Fixture& fixture, Image& image, Op op) {
  const bool has_data = op == Op::kRead || op == Op::kWrite;
  CHECK(fixture.result_of(1) == (has_data ? static_cast<int32_t>(kLength) : 0));
  if (op == Op::kRead) CHECK(fixture.first_wrong_byte(1, kOffset, kLength) == kLength);
  if (op == Op::kWrite) CHECK(image.holds(kOffset, fixture.buffer(1), kLength));
  CHECK(fixture.count_events("protocol-violation") == 0);
}

// By EOF or by a reset, in turns.
void cut(Fixture& fixture, size_t at) {
  if (at % 2 == 0) fixture.half_close_backend();
  if (at % 2 == 1) fixture.close_backend();
  REQUIRE(fixture.turn_until([&] { return fixture.device()->state() == State::kHolding; }));
}

// Sends the reply's first bytes in one piece or in two, and cuts, unless that is all of it.
void cut_reply(const Kind& kind, size_t at, bool* is_whole) {
  Image image(kImageBytes);
  Fixture fixture(
      {.structured = kind.structured, .reconnect_delay_ms = unbd::NbdDeviceConfig::kForever});
  submit_both(fixture, kind.op);
  image.serve(fixture, 1, kind.structured);
  const Bytes reply = first_reply(kind, image, image.take(fixture));
  *is_whole = at == reply.size();
  if (*is_whole) return;
  const size_t first = at / 2;
  fixture.reply(reply.data(), first);
  if (at % 3 == 0) fixture.settle();
  fixture.reply(reply.data() + first, at - first);
  cut(fixture, at);
  CHECK(fixture.result_of(0) == static_cast<int32_t>(kLength));
  CHECK(!fixture.is_answered(1));

  // The other style of replies, as from a backend that was replaced.
  fixture.resume({.structured = !kind.structured, .epoch = 0x7e58});
  image.serve(fixture, 1, !kind.structured);
  check_request(fixture, image, kind.op);
  CHECK(fixture.first_wrong_byte(0, kBefore, kLength) == kLength);
  CHECK(fixture.device()->replayed_requests() == 1);
}

// The backend takes the first bytes of what was sent, and cuts.
void cut_request(const Kind& kind, size_t at) {
  Image image(kImageBytes);
  Fixture fixture(
      {.structured = kind.structured, .reconnect_delay_ms = unbd::NbdDeviceConfig::kForever});
  submit_both(fixture, kind.op);
  fixture.next_bytes(at);
  cut(fixture, at);
  CHECK(fixture.answered() == 0);
  fixture.resume({.structured = kind.structured, .epoch = 0x7e58});
  image.serve(fixture, 2, kind.structured);
  check_request(fixture, image, kind.op);
  CHECK(fixture.result_of(0) == static_cast<int32_t>(kLength));
  CHECK(fixture.first_wrong_byte(0, kBefore, kLength) == kLength);
}

}  // namespace

TEST("cut after each byte of a reply of each kind, a request is carried out on the next one") {
  for (const Kind& kind : kKinds) {
    size_t at = 0;
    for (bool is_whole = false; !is_whole; ++at)
      cut_reply(kind, at, &is_whole);
    CHECK(at > 16);
  }
}

TEST("cut after each byte of a request of each kind, all of it is sent on the next one") {
  for (const Kind& kind : kKinds) {
    if (!kind.structured || kind.answer != Answer::kRight) continue;  // the same requests again
    const size_t payload = kind.op == Op::kWrite ? kLength : 0;
    for (size_t at = 0; at <= 2 * kRequestBytes + payload; ++at)
      cut_request(kind, at);
  }
}

TEST("a write that was executed, and whose reply was lost, is sent once more and is there") {
  Image image(kImageBytes);
  Fixture fixture({.reconnect_delay_ms = unbd::NbdDeviceConfig::kForever});
  const Request write = fixture.request(Op::kWrite, 0, kOffset, kLength);
  fixture.fill_buffer(0, kWritten, kLength);
  fixture.submit(write);
  image.take(fixture);
  cut(fixture, 1);
  fixture.resume({.epoch = 0x7e58});
  image.serve(fixture, 1);
  CHECK(fixture.result_of(0) == static_cast<int32_t>(kLength));
  CHECK(image.seen.size() == 2 && image.seen[0].offset == image.seen[1].offset);
  CHECK(image.holds(kOffset, fixture.buffer(0), kLength));
}

TEST_MAIN()
