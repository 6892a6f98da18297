// Owns: the claim that under load, with connections that are cut anywhere and a backend that then
// forgets what it had not flushed, every request is completed once, every read returns what was
// written last, and nothing that was acknowledged is lost. Seeded, so that every run is the same.
// Runs on the test's thread.
// Must not: know what the adapter has in flight; the test keeps its own count.
#include <array>
#include <random>

#include "test/log_fixture.h"
#include "test/nbd_image.h"

using namespace nbd_test;
using unbd::LogEntry;
using unbd::LogKind;
using unbd::LogReader;

namespace {

constexpr uint16_t kTags = 16;
constexpr uint32_t kRegionBytes = 32768;  // of the image, one for each tag
constexpr int kSeeds = 40;
constexpr int kSteps = 250;

class Load {
 public:
  explicit Load(uint32_t seed)
      : random_(seed),
        log_(log_test::create(folder_.file(), 1, 4 * log_test::kRingBytes)),
        fixture_({.structured = structured_,
                  .depth = kTags,
                  .maximum_request_bytes = kRegionBytes,
                  .reconnect_delay_ms = unbd::NbdDeviceConfig::kForever,
                  .unflushed = unbd::Unflushed::kReplay,
                  .log = log_}),
        image_(size_t{kTags} * kRegionBytes),
        expected_(image_.stored(0, size_t{kTags} * kRegionBytes)) {}

  void run() {
    for (int step = 0; step < kSteps; ++step) {
      submit_some();
      if (below(4) != 0) serve_some();
      if (below(6) == 0) cut();
      check_answered();
    }
    while (!in_flight_.empty()) {
      fixture_.settle();
      serve_some();
      check_answered();
    }
    // Without another word to the backend: what it forgets now is all in the log.
    forget_and_replay();
    REQUIRE(std::memcmp(image_.at(0), expected_.data(), expected_.size()) == 0);
    REQUIRE(fixture_.count_events("protocol-violation") == 0);
    REQUIRE(fixture_.count_events("warning") == 0);
  }

 private:
  uint32_t below(uint32_t limit) { return static_cast<uint32_t>(random_() % limit); }

  void submit_some() {
    std::vector<Request> batch;
    for (uint16_t tag = 0; tag < kTags; ++tag) {
      if (in_flight_.contains(tag) || below(3) != 0) continue;
      const Op op = std::array{Op::kRead,  Op::kRead,        Op::kWrite,   Op::kWrite,
                               Op::kWrite, Op::kWriteZeroes, Op::kDiscard, Op::kFlush}[below(8)];
      const uint32_t length = op == Op::kFlush ? 0 : 512 * (1 + below(below(4) == 0 ? 64 : 8));
      const uint32_t at = op == Op::kFlush ? 0 : 512 * below((kRegionBytes - length) / 512 + 1);
      const uint64_t offset = op == Op::kFlush ? 0 : uint64_t{tag} * kRegionBytes + at;
      Request request = fixture_.request(op, tag, offset, length);
      if (op == Op::kWrite) fixture_.fill_buffer(tag, random_(), length);
      request.fua = op != Op::kRead && op != Op::kFlush && below(8) == 0;
      in_flight_[tag] = request;
      batch.push_back(request);
    }
    if (!batch.empty()) fixture_.submit(batch);
  }

  void serve_some() {
    fixture_.settle();
    while (fixture_.backend_has_bytes())
      taken_.push_back(image_.take(fixture_));
    std::shuffle(taken_.begin(), taken_.end(), random_);
    for (uint32_t count = below(kTags); count > 0 && !taken_.empty(); --count) {
      fixture_.reply(image_.reply_to(taken_.back(), structured_));
      taken_.pop_back();
    }
    fixture_.settle();
  }

  void cut() {
    if (!taken_.empty() && below(2) == 0) {
      const Bytes reply = image_.reply_to(taken_.back(), structured_);
      fixture_.reply(reply.data(), below(static_cast<uint32_t>(reply.size())));
      if (below(2) == 0) fixture_.settle();
    }
    if (below(2) == 0) {
      fixture_.hold();
    } else {
      fixture_.close_backend();
    }
    using State = unbd::NbdDevice::State;
    REQUIRE(fixture_.turn_until([&] { return fixture_.device()->state() == State::kHolding; }));
    taken_.clear();
    if (below(2) == 0) submit_some();
    forget_and_replay();
    structured_ = below(2) == 0;
    const std::array<uint32_t, 4> maxima = {4096, 5000, 65536, unbd::NbdAgreement::kNoMaximum};
    fixture_.resume({.structured = structured_,
                     .can_fua = below(2) == 0,
                     .maximum_block_bytes = maxima[below(4)],
                     .minimum_block_bytes = 512,
                     .send_buffer_bytes = static_cast<int>(below(2)),
                     .epoch = ++epoch_});
  }

  void forget_and_replay() {
    image_.forget();
    LogReader reader(*log_);
    for (LogEntry entry; reader.next(&entry);) {
      if (entry.kind == LogKind::kWrite) {
        std::memcpy(image_.at(entry.offset_bytes), entry.payload, entry.length_bytes);
      } else {
        std::memset(image_.at(entry.offset_bytes), 0, entry.length_bytes);
      }
    }
  }

  void check_answered() {
    for (auto entry = in_flight_.begin(); entry != in_flight_.end();) {
      const Request& request = entry->second;
      if (!fixture_.is_answered(request.tag)) {
        ++entry;
        continue;
      }
      const bool has_data = request.op == Op::kRead || request.op == Op::kWrite;
      const int32_t wanted = has_data ? static_cast<int32_t>(request.length_bytes) : 0;
      REQUIRE(fixture_.result_of(request.tag) == wanted);
      uint8_t* const place = expected_.data() + request.offset_bytes;
      if (request.op == Op::kRead)
        REQUIRE(std::memcmp(fixture_.buffer(request.tag), place, request.length_bytes) == 0);
      if (request.op == Op::kWrite)
        std::memcpy(place, fixture_.buffer(request.tag), request.length_bytes);
      if (request.op == Op::kWriteZeroes || request.op == Op::kDiscard)
        std::memset(place, 0, request.length_bytes);
      entry = in_flight_.erase(entry);
    }
    fixture_.forget_results();
  }

  std::minstd_rand random_;
  log_test::Folder folder_;
  log_test::Log log_;
  bool structured_ = false;
  uint16_t epoch_ = 0;
  Fixture fixture_;
  Image image_;
  Bytes expected_;
  std::map<uint16_t, Request> in_flight_;
  std::vector<Sent> taken_;
};

}  // namespace

TEST("cut anywhere, before a backend that forgets, nothing that was acknowledged is lost") {
  for (uint32_t seed = 1; seed <= kSeeds; ++seed)
    Load(seed).run();
}

TEST_MAIN()
