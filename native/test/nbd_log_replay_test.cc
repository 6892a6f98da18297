// Owns: the claims about what a replay sends, in which order, and where it ends.
// Runs on the test's thread, the replay on its own. What hostile backends do is in
// nbd_log_replay_hostile_test.cc.
// Must not: share the core's numbers; nbd_protocol.h has its own.
#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "nbd/log_replay.h"
#include "test/check.h"
#include "test/replay_fixture.h"

using namespace nbd_test;
using namespace replay_test;
using log_test::payload_of;
using unbd::LogKind;

namespace {

bool is(const Replay::Request& request, uint16_t type, uint64_t offset, uint64_t length) {
  return request.type == type && request.offset == offset && request.length == length;
}

}  // namespace

TEST("an empty or wholly flushed log is replayed without a byte") {
  Replay replay;
  replay.write(0, 0, "flushed");
  replay.log().flushed(1);
  replay.start();
  const ReplayResult& result = replay.finish();
  CHECK(result.outcome == Outcome::kDone && result.error == 0 && result.reason.empty());
  CHECK(result.replayed.entries == 0 && !replay.has_bytes(0));
}

TEST("writes of all queues are sent in the order of their acknowledgement, byte for byte") {
  Replay replay(3);
  replay.config.epoch = 0xabcd;
  replay.write(2, 8192, payload_of(1, 512));
  replay.write(0, 0, payload_of(2, 4096));
  replay.note(1, LogKind::kTrim, 4096, 4096);
  replay.note(0, LogKind::kWriteZeroes, 16384, 512);
  replay.note(0, LogKind::kWriteZeroesNoHole, 32768, 512);
  replay.write(2, 65536, payload_of(3, 1 << 20));
  replay.start();
  std::vector<Replay::Request> sent;
  for (int count = 0; count < 6; ++count)
    sent.push_back(replay.next());
  for (const Replay::Request& request : sent) {
    CHECK(request.cookie >> 48 == 0xabcd);
    replay.reply(simple(request.cookie));
  }
  const ReplayResult& result = replay.finish();
  CHECK(result.outcome == Outcome::kDone);
  CHECK(result.replayed.entries == 6 && result.replayed.bytes == 512 + 4096 + (1 << 20));
  CHECK(is(sent[0], kCmdWrite, 8192, 512) && sent[0].payload == payload_of(1, 512));
  CHECK(is(sent[1], kCmdWrite, 0, 4096) && sent[1].payload == payload_of(2, 4096));
  CHECK(is(sent[2], kCmdTrim, 4096, 4096) && sent[2].flags == 0);
  CHECK(is(sent[3], kCmdWriteZeroes, 16384, 512) && sent[3].flags == 0);
  CHECK(is(sent[4], kCmdWriteZeroes, 32768, 512) && sent[4].flags == kFlagNoHole);
  CHECK(is(sent[5], kCmdWrite, 65536, 1 << 20) && sent[5].payload == payload_of(3, 1 << 20));
  // Nothing became durable by it.
  CHECK(replay.log().totals().entries == 6 && !replay.has_bytes(0));
}

TEST("at most 32 requests are under way") {
  Replay replay;
  for (uint64_t number = 0; number < 40; ++number)
    replay.write(number % 2, number * 4096, "payload");
  replay.start();
  std::vector<Replay::Request> sent;
  for (int count = 0; count < 32; ++count)
    sent.push_back(replay.next());
  CHECK(!replay.has_bytes(50));
  replay.reply(simple(sent[17].cookie));
  sent.push_back(replay.next());
  CHECK(sent.back().offset == 32 * 4096 && !replay.has_bytes(50));
  std::swap(sent[17], sent.back());
  sent.pop_back();
  std::reverse(sent.begin(), sent.end());
  for (const Replay::Request& request : sent)
    replay.reply(simple(request.cookie));
  for (int count = 0; count < 7; ++count)
    replay.reply(simple(replay.next().cookie));
  CHECK(replay.finish().outcome == Outcome::kDone);
}

TEST("what overlaps something under way waits, and all that follows waits with it") {
  Replay replay;
  replay.write(0, 4096, payload_of(1, 4096));
  replay.write(1, 8192, payload_of(2, 4096));
  replay.write(0, 8191, "overlaps the second by a byte");
  replay.write(1, 1 << 20, "far away");
  replay.note(0, LogKind::kTrim, 0, uint64_t{6} << 30);
  replay.start();
  const Replay::Request first = replay.next();
  const Replay::Request second = replay.next();
  CHECK(first.offset == 4096 && second.offset == 8192 && !replay.has_bytes(50));
  replay.reply(simple(second.cookie));
  CHECK(!replay.has_bytes(50));
  replay.reply(simple(first.cookie));
  const Replay::Request third = replay.next();
  const Replay::Request fourth = replay.next();
  CHECK(third.offset == 8191 && fourth.offset == 1 << 20 && !replay.has_bytes(50));
  replay.reply(simple(fourth.cookie).add(simple(third.cookie)));
  const Replay::Request trim = replay.next();
  const Replay::Request rest = replay.next();
  CHECK(is(trim, kCmdTrim, 0, UINT32_MAX));
  CHECK(is(rest, kCmdTrim, UINT32_MAX, (uint64_t{6} << 30) - UINT32_MAX));
  replay.reply(simple(rest.cookie).add(simple(trim.cookie)));
  CHECK(replay.finish().outcome == Outcome::kDone);
}

TEST("a write is cut at the backend's maximum, never inside its smallest block") {
  Replay replay;
  replay.config.maximum_block_bytes = 10'000;
  replay.config.minimum_block_bytes = 4096;
  const std::string payload = payload_of(1, 5 * 4096);
  replay.write(0, 4096, payload);
  replay.note(0, LogKind::kWriteZeroes, 0, uint64_t{4096} << 20);
  replay.start();
  const uint64_t lengths[] = {8192, 8192, 4096};
  uint64_t offset = 4096;
  for (const uint64_t length : lengths) {
    const Replay::Request part = replay.next();
    CHECK(is(part, kCmdWrite, offset, length));
    CHECK(part.payload == payload.substr(offset - 4096, length));
    replay.reply(simple(part.cookie));
    offset += length;
  }
  const uint32_t zeroes_max = UINT32_MAX / 4096 * 4096;
  const Replay::Request zeroes = replay.next();
  CHECK(is(zeroes, kCmdWriteZeroes, 0, zeroes_max));
  const Replay::Request rest = replay.next();
  CHECK(is(rest, kCmdWriteZeroes, zeroes_max, (uint64_t{4096} << 20) - zeroes_max));
  replay.reply(simple(zeroes.cookie).add(simple(rest.cookie)));
  CHECK(replay.finish().outcome == Outcome::kDone);
}

TEST("without the commands zeroes are written as data and trims are left out") {
  Replay replay;
  replay.config.can_trim = false;
  replay.config.can_write_zeroes = false;
  replay.note(0, LogKind::kTrim, 0, 1 << 30);
  replay.note(1, LogKind::kWriteZeroesNoHole, 512, 150'000);
  replay.note(0, LogKind::kTrim, 0, 1 << 30);
  replay.start();
  uint64_t offset = 512;
  while (offset < 512 + 150'000) {
    const Replay::Request part = replay.next();
    CHECK(part.type == kCmdWrite && part.offset == offset && part.flags == 0);
    CHECK(part.payload == std::string(part.length, '\0'));
    offset += part.length;
    replay.reply(simple(part.cookie));
  }
  CHECK(offset == 512 + 150'000);
  const ReplayResult& result = replay.finish();
  CHECK(result.outcome == Outcome::kDone && result.replayed.entries == 3);
  CHECK(result.replayed.bytes == 0 && !replay.has_bytes(0));
}

TEST("of structured replies, too, not a byte beyond the last one is read") {
  for (const bool structured : {false, true}) {
    for (const size_t piece : {size_t{1}, size_t{7}, size_t{1000}}) {
      Replay replay;
      replay.config.structured_replies = structured;
      for (uint64_t number = 0; number < 5; ++number)
        replay.note(0, LogKind::kTrim, number * 4096, 4096);
      replay.start();
      Bytes stream;
      for (int number = 0; number < 5; ++number) {
        const uint64_t cookie = replay.next().cookie;
        if (structured && number == 1) {
          // A trim's failure is no failure, so what follows is still the replay's.
          stream.add(error_chunk(cookie, 0, 5, "a text of the backend's"));
          stream.add(error_offset_chunk(cookie, kDone, 22, "", 4096));
        } else {
          stream.add(structured && number != 3 ? none_chunk(cookie) : simple(cookie, number == 2));
        }
      }
      stream.text("the next owner's");
      for (size_t at = 0; at < stream.size(); at += piece) {
        replay.send(stream.data() + at, std::min(piece, stream.size() - at));
        std::this_thread::yield();
      }
      CHECK(replay.finish().outcome == Outcome::kDone);
      CHECK(replay.left_unread() == "the next owner's");
    }
  }
}

TEST("a log that reaches beyond the export's end is not begun with") {
  Replay replay;
  replay.config.size_bytes = 1 << 20;
  replay.write(0, 0, "fits");
  replay.write(0, (1 << 20) - 3, "does not");
  replay.start();
  const ReplayResult& result = replay.finish();
  CHECK(result.outcome == Outcome::kUnfit && result.error == -EINVAL && !replay.has_bytes(0));
  CHECK(result.reason.find("beyond the export's end") != std::string::npos);
}

TEST("whatever order a backend answers in, its image is that of the log's order") {
  constexpr size_t kImageBytes = 256 * 1024;
  for (unsigned seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    const bool structured = seed % 2 == 0;
    Replay replay(4);
    replay.config.structured_replies = structured;
    replay.config.can_write_zeroes = seed % 3 != 0;
    replay.config.maximum_block_bytes = 4096u << seed % 5;
    std::string expected(kImageBytes, 'x');
    for (uint64_t number = 0; number < 300; ++number) {
      const size_t length = 1 + random() % (1u << (random() % 15));
      const size_t offset = random() % (kImageBytes - length);
      if (random() % 4 == 0) {
        replay.note(number % 4, LogKind::kWriteZeroes, offset, length);
        expected.replace(offset, length, length, '\0');
      } else {
        const std::string payload = payload_of(number, length);
        replay.write(number % 4, offset, payload);
        expected.replace(offset, length, payload);
      }
    }
    replay.start();
    std::string image(kImageBytes, 'x');
    std::vector<Replay::Request> held;
    // What it has read it carries out in any order, when it pleases.
    while (!replay.has_ended()) {
      if (replay.has_bytes(held.empty() ? 1 : 0) && random() % 4 != 0) {
        held.push_back(replay.next());
        continue;
      }
      if (held.empty()) continue;
      std::swap(held[random() % held.size()], held.back());
      const Replay::Request& request = held.back();
      if (request.type == kCmdWrite) {
        image.replace(request.offset, request.length, request.payload);
      } else {
        image.replace(request.offset, request.length, request.length, '\0');
      }
      replay.reply(structured ? none_chunk(request.cookie) : simple(request.cookie));
      held.pop_back();
    }
    CHECK(replay.finish().outcome == Outcome::kDone);
    CHECK(image == expected);
  }
}

TEST_MAIN()
