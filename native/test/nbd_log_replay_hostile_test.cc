// Owns: the claims about replays whose backend is hostile, broken, slow or gone.
// Runs on the test's thread, the replay on its own.
// Must not: take a replay for done of which one request was not answered.
#include <chrono>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "nbd/log_replay.h"
#include "test/check.h"
#include "test/replay_fixture.h"

using namespace nbd_test;
using namespace replay_test;
using unbd::LogKind;

namespace {

struct Hostility {
  const char* blame;
  bool structured;
  std::function<Bytes(uint64_t cookie)> reply;
};

Bytes chunk_with(uint64_t cookie, uint16_t flags, uint16_t type, uint32_t length) {
  return Bytes().u32(kStructuredMagic).u16(flags).u16(type).u64(cookie).u32(length);
}

const std::vector<Hostility> kHostilities = {
    {"no reply's magic", false, [](uint64_t cookie) { return Bytes().u32(1).u32(0).u64(cookie); }},
    {"no reply's magic", true, [](uint64_t) { return Bytes().text("HTTP/1.1 400 Bad Request"); }},
    {"none were agreed on", false, none_chunk},
    {"not in flight", false, [](uint64_t cookie) { return simple(cookie + 1); }},
    {"not in flight", false, [](uint64_t cookie) { return simple(cookie ^ uint64_t{1} << 48); }},
    {"not in flight", false, [](uint64_t) { return simple(0); }},
    {"not in flight", true, [](uint64_t) { return simple(~uint64_t{0}); }},
    {"not in flight", false, [](uint64_t cookie) { return simple(cookie ^ uint64_t{31} << 16); }},
    {"not in flight", false, [](uint64_t cookie) { return simple(cookie ^ uint64_t{32} << 16); }},
    {"not in flight", true, [](uint64_t cookie) { return none_chunk(cookie ^ 1); }},
    {"not in flight", false, [](uint64_t cookie) { return simple(cookie).add(simple(cookie)); }},
    {"not in flight", true,
     [](uint64_t cookie) { return none_chunk(cookie).add(none_chunk(cookie)); }},
    {"NONE", true, [](uint64_t cookie) { return chunk(cookie, 0, kTypeNone, {}); }},
    {"NONE", true, [](uint64_t cookie) { return chunk(cookie, kDone, kTypeNone, Bytes().u16(1)); }},
    {"type 1", true, [](uint64_t cookie) { return data_chunk(cookie, kDone, 0, Bytes().u16(1)); }},
    {"type 2", true, [](uint64_t cookie) { return hole_chunk(cookie, kDone, 0, 512); }},
    {"type 5", true, [](uint64_t cookie) { return chunk(cookie, kDone, 5, Bytes().u64(1)); }},
    {"of 5 bytes", true, [](uint64_t cookie) { return chunk_with(cookie, kDone, kTypeError, 5); }},
    {"of 4111 bytes", true,
     [](uint64_t cookie) { return chunk_with(cookie, kDone, kTypeError, 6 + 4096 + 8 + 1); }},
    {"of 4294967295 bytes", true,
     [](uint64_t cookie) { return chunk_with(cookie, kDone, 40'000, UINT32_MAX); }},
    {"without an error", true, [](uint64_t cookie) { return error_chunk(cookie, kDone, 0, "?"); }},
    {"contradict", true,
     [](uint64_t cookie) { return chunk(cookie, kDone, kTypeError, Bytes().u32(5).u16(9)); }},
    {"contradict", true,
     [](uint64_t cookie) {
       return chunk(cookie, kDone, kTypeErrorOffset, Bytes().u32(5).u16(0).u32(1));
     }},
    {"outside the request", true,
     [](uint64_t cookie) { return error_offset_chunk(cookie, kDone, 5, "", 4095); }},
    {"outside the request", true,
     [](uint64_t cookie) { return error_offset_chunk(cookie, kDone, 5, "", 4096 + 7); }},
    {"after chunks", true,
     [](uint64_t cookie) { return error_chunk(cookie, 0, 5, "x").add(simple(cookie)); }},
    {"more than 16 chunks", true,
     [](uint64_t cookie) {
       Bytes stream;
       for (int count = 0; count < 17; ++count)
         stream.add(error_chunk(cookie, 0, 5, "again"));
       return stream;
     }},
};

}  // namespace

TEST("a reply that breaks the protocol ends the replay and is blamed") {
  for (const Hostility& hostility : kHostilities) {
    Replay replay;
    replay.config.structured_replies = hostility.structured;
    replay.write(0, 4096, "payload");
    replay.write(1, 8192, "payload");
    replay.start();
    const uint64_t cookie = replay.next().cookie;
    replay.next();
    replay.reply(hostility.reply(cookie));
    const ReplayResult& result = replay.finish();
    const bool is_blamed = result.reason.find(hostility.blame) != std::string::npos &&
                           result.reason.find("the backend broke the NBD protocol") == 0;
    if (!is_blamed) std::printf("# %s: %s\n", hostility.blame, result.reason.c_str());
    CHECK(is_blamed && result.outcome == Outcome::kViolation && result.error == -EPROTO);
    CHECK(result.replayed.entries == 0);
  }
}

TEST("an answer to a request that is not all sent is a violation") {
  Replay replay;
  const int small = 1;
  ::setsockopt(replay.transport().fd(), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
  replay.write(0, 0, std::string(1 << 20, 'x'));
  replay.start();
  const std::string head = replay.take(kRequestBytes);
  replay.reply(simple(parse_request(reinterpret_cast<const uint8_t*>(head.data())).cookie));
  const ReplayResult& result = replay.finish();
  CHECK(result.outcome == Outcome::kViolation);
  CHECK(result.reason.find("before all of it was sent") != std::string::npos);
}

TEST("an error in reply to a write or zeroes ends the replay with that error") {
  const std::vector<std::pair<uint32_t, int>> errors = {
      {1, EPERM},   {5, EIO},         {12, ENOMEM}, {22, EINVAL},
      {28, ENOSPC}, {95, EOPNOTSUPP}, {77, EINVAL}};
  for (const auto& [wire, error] : errors) {
    for (const bool structured : {false, true}) {
      Replay replay;
      replay.config.structured_replies = structured;
      if (wire % 2 == 0) {
        replay.write(0, 0, "payload");
      } else {
        replay.note(0, LogKind::kWriteZeroes, 0, 4096);
      }
      replay.start();
      const uint64_t cookie = replay.next().cookie;
      replay.reply(structured ? error_chunk(cookie, 0, wire, "no").add(none_chunk(cookie))
                              : simple(cookie, wire));
      const ReplayResult& result = replay.finish();
      CHECK(result.outcome == Outcome::kRefused && result.error == -error);
      CHECK(result.reason.find(::strerrorname_np(error)) != std::string::npos);
    }
  }
}

TEST("a backend that shuts down is lost, whatever it answers that to") {
  for (const bool structured : {false, true}) {
    Replay replay;
    replay.config.structured_replies = structured;
    replay.note(0, LogKind::kTrim, 0, 4096);
    replay.start();
    const uint64_t cookie = replay.next().cookie;
    replay.reply(structured ? error_chunk(cookie, kDone, 108, "bye") : simple(cookie, 108));
    const ReplayResult& result = replay.finish();
    CHECK(result.outcome == Outcome::kLost && result.error == -ESHUTDOWN);
  }
}

TEST("a connection that is cut at any byte of the replies is lost") {
  for (const bool structured : {false, true}) {
    for (size_t cut = 0;; ++cut) {
      Replay replay;
      replay.config.structured_replies = structured;
      replay.write(0, 0, "one");
      replay.note(0, LogKind::kTrim, 4096, 4096);
      replay.start();
      const uint64_t first = replay.next().cookie;
      const uint64_t second = replay.next().cookie;
      const Bytes stream = structured ? none_chunk(first).add(error_chunk(second, kDone, 5, "text"))
                                      : simple(first).add(simple(second));
      const bool is_whole = cut == stream.size();
      replay.send(stream.data(), cut);
      replay.close_backend();
      const ReplayResult& result = replay.finish();
      if (is_whole) {
        CHECK(result.outcome == Outcome::kDone);
        break;
      }
      CHECK(result.outcome == Outcome::kLost && result.error < 0 && !result.reason.empty());
    }
  }
}

TEST("a connection that is cut at any byte of a request is lost") {
  for (size_t cut = 0; cut < kRequestBytes + 7; ++cut) {
    Replay replay;
    replay.write(0, 0, "payload");
    replay.start();
    replay.take(cut);
    replay.close_backend();
    CHECK(replay.finish().outcome == Outcome::kLost);
  }
}

TEST("a backend that answers nothing, reads nothing or trickles is given up in time") {
  enum class Kind : uint8_t { kAnswersNothing, kReadsNothing, kTrickles };
  for (const Kind kind : {Kind::kAnswersNothing, Kind::kReadsNothing, Kind::kTrickles}) {
    Replay replay;
    // What is read fits the socket, so that the replay's end does not depend on when that is.
    const std::string payload(kind == Kind::kReadsNothing ? 1 << 20 : 512, 'x');
    for (uint64_t number = 0; number < 3; ++number)
      replay.write(0, number << 20, payload);
    const auto begin = std::chrono::steady_clock::now();
    replay.start(100);
    if (kind != Kind::kReadsNothing) {
      const uint64_t cookie = replay.next().cookie;
      replay.next();
      replay.next();
      const Bytes stream = simple(cookie);
      for (size_t at = 0; kind == Kind::kTrickles && at < 15; ++at) {
        replay.send(stream.data() + at, 1);
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    }
    const ReplayResult& result = replay.finish();
    CHECK(result.outcome == Outcome::kTimedOut && result.error == -ETIMEDOUT);
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(kPatienceMs / 2));
  }
}

TEST("a backend that is slow but goes on is waited for") {
  Replay replay;
  for (uint64_t number = 0; number < 6; ++number)
    replay.write(0, 0, "the same place");
  replay.start(3000);
  for (int count = 0; count < 6; ++count) {
    const uint64_t cookie = replay.next().cookie;
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
    replay.reply(simple(cookie));
  }
  CHECK(replay.finish().outcome == Outcome::kDone);
}

TEST("another thread's shutdown() ends a replay at once") {
  Replay replay;
  replay.write(0, 0, "payload");
  replay.start(60'000);
  replay.next();
  replay.transport().shutdown();
  const ReplayResult& result = replay.finish();
  CHECK(result.outcome == Outcome::kLost && result.error == -ECANCELED);
}

TEST("no stream of replies that is damaged at random passes for a whole one") {
  int done = 0;
  for (unsigned seed = 0; seed < 1500; ++seed) {
    std::mt19937 random(seed);
    Replay replay(1, unbd::UnflushedLog::kQueueBytesMin);
    replay.config.structured_replies = seed % 2 == 0;
    for (uint64_t number = 0; number < 4; ++number)
      replay.write(0, number * 4096, "payload");
    replay.start();
    Bytes stream;
    for (int count = 0; count < 4; ++count) {
      const uint64_t cookie = replay.next().cookie;
      stream.add(seed % 2 == 0 && random() % 2 == 0 ? none_chunk(cookie) : simple(cookie));
    }
    const Bytes good = stream;
    const size_t changes = random() % 3;
    for (size_t count = 0; count < changes; ++count)
      stream.data()[random() % stream.size()] ^= static_cast<uint8_t>(1 << random() % 8);
    const bool is_good = std::memcmp(good.data(), stream.data(), stream.size()) == 0;
    replay.reply(stream);
    replay.close_backend();
    const ReplayResult& result = replay.finish();
    if (is_good) CHECK(result.outcome == Outcome::kDone);
    // Flags that nobody knows are ignored, so some of the damage does none.
    if (result.outcome == Outcome::kDone) {
      ++done;
    } else {
      CHECK(result.error < 0 && !result.reason.empty() && result.reason.size() < 300);
    }
  }
  CHECK(done > 300 && done < 900);
}

TEST_MAIN()
