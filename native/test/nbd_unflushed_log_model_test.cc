// Owns: the claims about the unflushed log over long random runs and under threads.
// Runs on the test's thread, and on threads that it starts.
// Must not: know more of the log than a list of all writes would tell.
#include <atomic>
#include <cstdint>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "nbd/unflushed_log.h"
#include "test/check.h"
#include "test/log_fixture.h"

using namespace log_test;

TEST("over a long random run the log holds what a list of all writes would") {
  Folder folder;
  const std::string path = folder.file();
  constexpr unsigned kQueues = 3;
  std::mt19937_64 random(11);
  Log log = create(path, kQueues, 2 * kRingBytes);
  std::vector<Entry> model;
  uint64_t sequence = 0;
  uint64_t refused = 0;
  std::vector<uint64_t> reserved[kQueues];
  for (int round = 0; round < 60'000; ++round) {
    const unsigned queue = static_cast<unsigned>(random() % kQueues);
    const uint64_t what = random() % 1000;
    std::vector<uint64_t>& own = reserved[queue];
    if (what < 500) {
      const uint64_t bytes = random() % 5 == 0 ? 0 : random() % 4096 + 1;
      if (log->reserve(queue, bytes)) {
        own.push_back(bytes);
      } else {
        // Full it may only be when it is nearly so: heads and rounding take the rest.
        uint64_t taken = log->live_bytes(queue);
        for (const uint64_t other : own)
          taken += 32 + (other + 31) / 32 * 32;
        CHECK(taken + 32 + bytes + 31 >= 2 * kRingBytes);
        ++refused;
      }
    } else if (what < 900 && !own.empty()) {
      std::swap(own[random() % own.size()], own.back());
      const uint64_t bytes = own.back();
      own.pop_back();
      const uint64_t offset = random() % (1 << 30);
      ++sequence;
      const std::string payload = payload_of(sequence, bytes);
      const LogKind kind = bytes > 0 ? LogKind::kWrite : static_cast<LogKind>(2 + random() % 3);
      const uint64_t length = bytes > 0 ? bytes : 1 + random() % (uint64_t{1} << 33);
      log->append(queue, kind, offset, length,
                  bytes > 0 ? reinterpret_cast<const std::byte*>(payload.data()) : nullptr);
      model.push_back({sequence, kind, offset, length, payload});
    } else if (what < 960 && !own.empty()) {
      log->release(queue, own.back());
      own.pop_back();
    } else if (what < 990) {
      const uint64_t until = sequence - random() % 40 % (sequence + 1);
      log->flushed(until);
      std::erase_if(model, [&](const Entry& entry) { return entry.sequence <= until; });
    } else if (what < 993) {
      log.reset();
      log = reopen(path, kQueues, 2 * kRingBytes);
      for (std::vector<uint64_t>& lost : reserved)
        lost.clear();
      CHECK(log->totals().entries == model.size());
    }
    CHECK(log->sequence() == sequence && log->all_flushed() == model.empty());
    if (round % 50 == 0) CHECK(entries_of(*log) == model);
  }
  CHECK(entries_of(*log) == model && sequence > 10'000);
  std::printf("# %llu entries, %llu times full\n", static_cast<unsigned long long>(sequence),
              static_cast<unsigned long long>(refused));
}

namespace {

constexpr unsigned kThreads = 4;

}  // namespace

TEST("threads append, flush and look at the same time") {
  Folder folder;
  Log log = create(folder.file(), kThreads);
  constexpr uint64_t kAppends = 20'000;
  std::atomic<unsigned> running{kThreads};
  std::vector<std::thread> threads;
  for (unsigned queue = 0; queue < kThreads; ++queue) {
    threads.emplace_back([&, queue] {
      for (uint64_t number = 0; number < kAppends; ++number) {
        const std::string payload = payload_of(number * kThreads + queue, 1 + number * 7919 % 700);
        while (!write(*log, queue, number, payload))
          log->flushed(log->sequence());
        if (log->is_half_full(queue)) log->flushed(log->sequence());
      }
      --running;
    });
  }
  uint64_t most = 0;
  while (running.load() > 0) {
    most = std::max(most, log->totals().entries);
    for (unsigned queue = 0; queue < kThreads; ++queue)
      most = std::max(most, log->live_bytes(queue) / kRingBytes);
    log->set_hold_deadline_ns(log->next_epoch());
  }
  for (std::thread& thread : threads)
    thread.join();
  CHECK(log->sequence() == kThreads * kAppends);
  const std::vector<Entry> entries = entries_of(*log);
  for (size_t at = 1; at < entries.size(); ++at)
    CHECK(entries[at - 1].sequence < entries[at].sequence);
  log->flushed(log->sequence());
  CHECK(log->all_flushed() && most < kThreads * kAppends);
}

TEST_MAIN()
