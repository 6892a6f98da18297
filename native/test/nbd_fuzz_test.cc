// Owns: the claim that no reply stream, however damaged, crashes the adapter, answers a request
// twice, or makes a read succeed with other bytes than the backend sent for it. Seeded and
// bounded, so that every run is the same.
// Runs on the test's thread.
// Must not: judge by the adapter's own reading of the stream; nbd_model.h is the judge.
#include <random>

#include "test/nbd_fixture.h"
#include "test/nbd_model.h"

using namespace nbd_test;

namespace {

constexpr int kRounds = 2500;
constexpr uint16_t kRequests = 6;

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  uint32_t below(uint32_t limit) { return static_cast<uint32_t>(engine_() % limit); }
  bool one_in(uint32_t count) { return below(count) == 0; }

 private:
  std::minstd_rand engine_;
};

Bytes structured_read(Random& random, const Sent& sent) {
  Bytes stream;
  for (uint32_t at = 0; at < sent.length;) {
    const uint32_t length = 1 + random.below(sent.length - at);
    const uint16_t flags = at + length == sent.length && random.one_in(2) ? kDone : 0;
    const uint64_t offset = sent.offset + at;
    at += length;
    if (random.one_in(4)) {
      stream.add(hole_chunk(sent.cookie, flags, offset, length));
    } else {
      stream.add(data_chunk(sent.cookie, flags, offset, pattern(offset, length)));
    }
    if (flags == kDone) return stream;
  }
  return stream.add(none_chunk(sent.cookie));
}

Bytes valid_reply(Random& random, const Sent& sent, bool structured) {
  if (!structured)
    return random.one_in(5)        ? simple(sent.cookie, 1 + random.below(120))
           : sent.type == kCmdRead ? simple(sent.cookie).add(pattern(sent.offset, sent.length))
                                   : simple(sent.cookie);
  if (random.one_in(6)) return error_chunk(sent.cookie, kDone, 5, "no");
  if (random.one_in(6) && sent.length > 0)
    return error_offset_chunk(sent.cookie, 0, 28, "no", sent.offset).add(none_chunk(sent.cookie));
  return sent.type == kCmdRead ? structured_read(random, sent) : none_chunk(sent.cookie);
}

Bytes slice(const Bytes& bytes, size_t from, size_t until) {
  return Bytes().raw(bytes.data() + from, until - from);
}

// Damages the stream in one of the ways in which streams are damaged.
Bytes damage(Random& random, const Bytes& stream) {
  const uint32_t size = static_cast<uint32_t>(stream.size());
  const uint32_t at = random.below(size);
  const uint32_t length = 1 + random.below(std::min(size - at, 40U));
  Bytes damaged = stream;
  switch (random.below(6)) {
    case 0:
      damaged.data()[at] ^= static_cast<uint8_t>(1U << random.below(8));
      return damaged;
    case 1:
      damaged.data()[at] = random.one_in(2) ? 0xff : 0;
      return damaged;
    case 2:
      return slice(stream, 0, at);
    case 3:
      return slice(stream, 0, at).add(slice(stream, at + length, size));
    case 4:
      return slice(stream, 0, at + length).add(slice(stream, at, size));
    default:
      return slice(stream, 0, at).add(pattern(at, length)).add(slice(stream, at, size));
  }
}

// Most damage should hit what is parsed, not payloads, so reads are short.
std::vector<Request> random_requests(Random& random, Fixture& fixture) {
  std::vector<Request> batch;
  for (uint16_t tag = 0; tag < kRequests; ++tag) {
    const uint64_t offset = random.below(1 << 20);
    switch (random.below(4)) {
      case 0:
        batch.push_back(fixture.request(Op::kFlush, tag, 0, 0));
        break;
      case 1:
        batch.push_back(fixture.request(Op::kDiscard, tag, offset, 512));
        break;
      default:
        batch.push_back(fixture.request(Op::kRead, tag, offset,
                                        random.one_in(12) ? 40'000 : 1 + random.below(60)));
    }
  }
  return batch;
}

int errno_of(uint32_t error) {
  switch (error) {
    case 1:
    case 5:
    case 12:
    case 28:
      return static_cast<int>(error);
    case 95:
      return EOPNOTSUPP;
    default:
      return EINVAL;
  }
}

void expect_as_model(Fixture& fixture, const Model& model) {
  for (uint16_t tag = 0; tag < kRequests; ++tag) {
    const Expected& expected = model.requests[tag];
    const int32_t result = fixture.result_of(tag);
    if (!expected.answered) {
      CHECK(result == -EIO);
    } else if (expected.failed) {
      CHECK(result == -errno_of(expected.error));
    } else if (expected.sent.type == kCmdRead) {
      CHECK(result == static_cast<int32_t>(expected.sent.length));
      CHECK(std::memcmp(fixture.buffer(tag), expected.data.data(), expected.sent.length) == 0);
    } else {
      CHECK(result == 0);
    }
  }
}

void play(uint32_t seed) {
  Random random(seed);
  const bool structured = random.one_in(2);
  Fixture fixture({.structured = structured});
  Model model(structured);
  fixture.submit(random_requests(random, fixture));
  Bytes stream;
  std::vector<Bytes> replies;
  for (int count = 0; count < kRequests; ++count) {
    const Sent sent = fixture.next_request();
    model.expect(sent);
    const Bytes reply = valid_reply(random, sent, structured);
    stream = random.one_in(2) ? Bytes().add(reply).add(stream) : stream.add(reply);
  }
  for (uint32_t damages = random.below(3); damages > 0 && stream.size() > 0; --damages)
    stream = damage(random, stream);
  const bool goes_on = model.read(stream);

  for (size_t at = 0; at < stream.size();) {
    const size_t length =
        std::min<size_t>(stream.size() - at, random.one_in(2) ? 1 + random.below(50) : 50'000);
    fixture.reply(stream.data() + at, length);
    if (random.one_in(2)) fixture.settle();
    at += length;
  }
  fixture.close_backend();
  expect_as_model(fixture, model);
  CHECK(fixture.turn_until([&] { return fixture.is_lost(); }));
  CHECK(!goes_on || fixture.events.back().kind == "backend-lost");
}

}  // namespace

TEST("damaged reply streams are read as a plain model reads them") {
  for (uint32_t seed = 1; seed <= kRounds; ++seed) {
    play(seed);
    if (unbd::test::failed) {
      std::printf("# with seed %u\n", seed);
      return;
    }
  }
}

TEST_MAIN()
