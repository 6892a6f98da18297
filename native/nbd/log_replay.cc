// Owns: the implementation of replay_log() (see log_replay.h): what is sent, received and waited
// for.
// Runs on a worker thread of the control plane.
// Must not: wait for one direction only; a backend may read no more before we have read its
// replies.
#include "nbd/log_replay.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <string_view>

#include "base/clock.h"
#include "base/errno_name.h"
#include "nbd/replay_replies.h"
#include "nbd/replay_source.h"
#include "nbd/wire.h"

namespace unbd {

namespace {

using Outcome = ReplayResult::Outcome;

class Replay {
 public:
  Replay(Transport& transport, const ReplayConfig& config, const UnflushedLog& log, int patience_ms)
      : transport_(transport),
        source_(log, config),
        replies_(config.structured_replies, config.epoch),
        patience_ms_(static_cast<uint64_t>(std::max(patience_ms, 0))),
        deadline_ms_(monotonic_ms() + patience_ms_) {}

  ReplayResult run();

 private:
  // A request of which not everything is sent.
  struct Unsent {
    nbd::RequestHeader header;
    const std::byte* payload;
    uint32_t payload_bytes;
    size_t bytes() const { return sizeof(header) + payload_bytes; }
  };
  enum class Step : uint8_t { kProgress, kNothingToDo, kOver };

  void stage();
  Step send();
  Step receive();
  bool wait();
  Step over(Outcome outcome, int error, std::string_view reason);
  Step lost(int error);

  Transport& transport_;
  nbd::ReplaySource source_;
  nbd::ReplayReplies replies_;
  const uint64_t patience_ms_;
  uint64_t deadline_ms_;
  std::deque<Unsent> unsent_;
  size_t front_sent_bytes_ = 0;  // of unsent_.front()
  uint64_t staged_bytes_ = 0;    // of the stream
  uint64_t sent_bytes_ = 0;
  ReplayResult result_;
};

ReplayResult Replay::run() {
  for (;;) {
    stage();
    // Every request under way has a reply to come, so this is the end of them all.
    if (replies_.outstanding() == 0) return result_;
    const Step received = receive();
    if (received == Step::kOver) return result_;
    const Step sent = send();
    if (sent == Step::kOver) return result_;
    if (received == Step::kProgress || sent == Step::kProgress) {
      deadline_ms_ = monotonic_ms() + patience_ms_;
    } else if (!wait()) {
      return result_;
    }
  }
}

// In the log's order: what has to wait for something under way holds up all that follows.
void Replay::stage() {
  for (;;) {
    const nbd::ReplayRequest* const request = source_.peek();
    if (request == nullptr || !replies_.has_room_for(*request)) return;
    const uint32_t payload_bytes = request->payload == nullptr ? 0 : request->length_bytes;
    staged_bytes_ += sizeof(nbd::RequestHeader) + payload_bytes;
    const uint64_t cookie = replies_.add(*request, staged_bytes_);
    unsent_.push_back({.header = {.magic = nbd::swap32(nbd::kRequestMagic),
                                  .flags = nbd::swap16(request->flags),
                                  .type = nbd::swap16(static_cast<uint16_t>(request->command)),
                                  .cookie = nbd::swap64(cookie),
                                  .offset = nbd::swap64(request->offset_bytes),
                                  .length = nbd::swap32(request->length_bytes)},
                       .payload = request->payload,
                       .payload_bytes = payload_bytes});
    source_.pop();
  }
}

// Sends what fits now.
Replay::Step Replay::send() {
  Step step = Step::kNothingToDo;
  while (!unsent_.empty()) {
    std::array<iovec, 2 * nbd::ReplayReplies::kSlots> iov;
    int count = 0;
    const auto add = [&](const void* bytes, size_t length, size_t skip) {
      if (skip < length)
        iov[static_cast<size_t>(count++)] = {
            const_cast<std::byte*>(static_cast<const std::byte*>(bytes)) + skip, length - skip};
    };
    for (const Unsent& unsent : unsent_) {
      const size_t skip = &unsent == &unsent_.front() ? front_sent_bytes_ : 0;
      add(&unsent.header, sizeof(unsent.header), skip);
      add(unsent.payload, unsent.payload_bytes, skip - std::min(skip, sizeof(unsent.header)));
    }
    const ssize_t sent = transport_.try_send(iov.data(), count);
    if (sent == -EAGAIN) return step;
    if (sent < 0) return lost(static_cast<int>(sent));
    sent_bytes_ += static_cast<uint64_t>(sent);
    front_sent_bytes_ += static_cast<size_t>(sent);
    while (!unsent_.empty() && front_sent_bytes_ >= unsent_.front().bytes()) {
      front_sent_bytes_ -= unsent_.front().bytes();
      unsent_.pop_front();
    }
    step = Step::kProgress;
  }
  return step;
}

// Receives what is there. Progress is an answered request: a backend that sends a byte now and then
// makes none.
Replay::Step Replay::receive() {
  const unsigned before = replies_.outstanding();
  while (replies_.outstanding() > 0) {
    const iovec space{.iov_base = replies_.space(), .iov_len = replies_.receivable_bytes()};
    const ssize_t received = transport_.try_recv(&space, 1);
    if (received == -EAGAIN) break;
    if (received == 0) return over(Outcome::kLost, -ENODATA, "the backend closed the connection");
    if (received < 0) return lost(static_cast<int>(received));
    if (!replies_.received(static_cast<size_t>(received), sent_bytes_)) {
      result_ = replies_.failure();
      return Step::kOver;
    }
  }
  return replies_.outstanding() < before ? Step::kProgress : Step::kNothingToDo;
}

// Until there is something to receive or room to send. The deadline comes first: what is received
// may be no progress.
bool Replay::wait() {
  for (;;) {
    const uint64_t now_ms = monotonic_ms();
    if (now_ms >= deadline_ms_) {
      over(Outcome::kTimedOut, -ETIMEDOUT, "the backend stopped answering");
      return false;
    }
    const short events = static_cast<short>(POLLIN | (unsent_.empty() ? 0 : POLLOUT));
    pollfd entry{.fd = transport_.fd(), .events = events, .revents = 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(deadline_ms_ - now_ms));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) {
      lost(-errno);
      return false;
    }
  }
}

Replay::Step Replay::over(Outcome outcome, int error, std::string_view reason) {
  result_ = {.outcome = outcome, .error = error, .reason = std::string(reason)};
  return Step::kOver;
}

Replay::Step Replay::lost(int error) {
  return over(Outcome::kLost, error, std::string("the connection broke: ") + errno_name(-error));
}

}  // namespace

ReplayResult replay_log(Transport& transport, const ReplayConfig& config, const UnflushedLog& log,
                        int patience_ms) {
  LogTotals totals;
  LogReader reader(log);
  for (LogEntry entry; reader.next(&entry);) {
    if (entry.offset_bytes > config.size_bytes ||
        entry.length_bytes > config.size_bytes - entry.offset_bytes)
      return {.outcome = Outcome::kUnfit,
              .error = -EINVAL,
              .reason = "the log of unflushed writes reaches beyond the export's end"};
    ++totals.entries;
    if (entry.payload != nullptr) totals.bytes += entry.length_bytes;
  }
  ReplayResult result = Replay(transport, config, log, patience_ms).run();
  if (result.outcome == Outcome::kDone) result.replayed = totals;
  return result;
}

}  // namespace unbd
