// Owns: the claims about what a killed process leaves in the unflushed log.
// Runs on the test's thread; the processes that it starts have threads of their own.
// Must not: be satisfied with less than every entry whose append() returned.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "nbd/unflushed_log.h"
#include "test/check.h"
#include "test/log_fixture.h"

using namespace log_test;
using unbd::Fd;

namespace {

// Memory that a child and its parent share.
template <typename T>
T* share() {
  void* const memory =
      ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  require(memory != MAP_FAILED, "shared memory");
  return new (memory) T();
}

void raise_to(std::atomic<uint64_t>& value, uint64_t floor) {
  uint64_t known = value.load();
  while (known < floor && !value.compare_exchange_weak(known, floor)) {
  }
}

// ---- One step of the processor at a time.

struct Step {
  unsigned queue;
  uint64_t length;  // of a write; 0: a flush of all but the last `keep` entries
  uint64_t keep;
};

// Ends and begins again at the ring's end, drops one by one and all at once.
const std::vector<Step> kSteps = {{0, 100, 0},  {1, 40, 0}, {0, 0, 2},  {0, 3000, 0}, {0, 1, 0},
                                  {1, 500, 0},  {0, 0, 1},  {1, 33, 0}, {0, 64, 0},   {0, 0, 0},
                                  {1, 2000, 0}, {0, 32, 0}, {0, 0, 0},  {0, 10, 0}};
constexpr uint64_t kFillBytes = kRingBytes - 2048;

void take_step(UnflushedLog& log, const Step& step, const std::string& payload) {
  if (step.length > 0) {
    write(log, step.queue, step.length, payload);
  } else {
    log.flushed(log.sequence() - step.keep);
  }
}

// What the log holds after so many steps.
std::vector<Entry> after_steps(size_t count) {
  std::vector<Entry> model = {
      {1, LogKind::kWrite, kFillBytes, kFillBytes, payload_of(1, kFillBytes)},
      {2, LogKind::kWrite, 64, 64, payload_of(2, 64)}};
  uint64_t sequence = 2;
  for (size_t at = 0; at < count; ++at) {
    const Step& step = kSteps[at];
    if (step.length > 0) {
      ++sequence;
      model.push_back(
          {sequence, LogKind::kWrite, step.length, step.length, payload_of(sequence, step.length)});
    } else {
      std::erase_if(model,
                    [&](const Entry& entry) { return entry.sequence + step.keep <= sequence; });
    }
  }
  return model;
}

[[noreturn]] void run_steps(const std::string& path, std::atomic<uint64_t>* done) {
  Log log = create(path, 2);
  std::vector<std::string> payloads;
  uint64_t sequence = 2;
  for (const Step& step : kSteps)
    payloads.push_back(payload_of(step.length > 0 ? ++sequence : 0, step.length));
  write(*log, 0, kFillBytes, payload_of(1, kFillBytes));
  write(*log, 0, 64, payload_of(2, 64));
  if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(2);
  ::raise(SIGSTOP);
  for (size_t at = 0; at < kSteps.size(); ++at) {
    take_step(*log, kSteps[at], payloads[at]);
    done->store(at + 1);
  }
  ::_exit(0);
}

// The file as a successor finds it: what the log in it holds. False: it does not open.
bool entries_in(const std::string& path, const std::string& bytes, std::vector<Entry>* entries) {
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT, 0600));
  require(::pwrite(file.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()),
          "a copy of the log");
  Log log;
  std::string text;
  if (UnflushedLog::open(path, 2, kRingBytes, &log, &text) < 0) {
    std::printf("# %s\n", text.c_str());
    return false;
  }
  *entries = entries_of(*log);
  return true;
}

// ---- Many threads, killed together.

constexpr unsigned kThreads = 4;
constexpr size_t kWitnessed = 1 << 16;

struct Witness {
  std::atomic<uint64_t> done{0};  // appends that returned, over all generations
  uint64_t before[kWitnessed];    // sequence() before and after the append
  uint64_t after[kWitnessed];
};
struct Witnesses {
  Witness queues[kThreads];
  std::atomic<uint64_t> flush_begun{0};  // the highest that flushed() was called with
  std::atomic<uint64_t> flush_ended{0};  // and that it returned from
};

size_t length_of(unsigned queue, uint64_t number) {
  return 1 + (number * 7919 + queue * 104729) % 700;
}

std::string witnessed_payload(unsigned queue, uint64_t number) {
  return payload_of(number * kThreads + queue, length_of(queue, number));
}

void flush(UnflushedLog& log, Witnesses& witnesses) {
  const uint64_t staged = log.sequence();
  raise_to(witnesses.flush_begun, staged);
  log.flushed(staged);
  raise_to(witnesses.flush_ended, staged);
}

void append_without_end(UnflushedLog& log, unsigned queue, Witnesses& witnesses) {
  Witness& witness = witnesses.queues[queue];
  for (uint64_t number = witness.done.load();; ++number) {
    const std::string payload = witnessed_payload(queue, number);
    while (!log.reserve(queue, payload.size()))
      flush(log, witnesses);
    witness.before[number % kWitnessed] = log.sequence();
    log.append(queue, LogKind::kWrite, number, payload.size(),
               reinterpret_cast<const std::byte*>(payload.data()));
    witness.after[number % kWitnessed] = log.sequence();
    witness.done.store(number + 1);
    if (number % 100 == 99) flush(log, witnesses);
  }
}

uint64_t appended(const Witnesses& witnesses) {
  uint64_t sum = 0;
  for (const Witness& witness : witnesses.queues)
    sum += witness.done.load();
  return sum;
}

// Judges one queue's entries after a kill, and takes an entry whose append() had not returned for
// done. Empty, or what is wrong.
const char* judge(unsigned queue, const std::vector<Entry>& entries, Witnesses& witnesses) {
  Witness& witness = witnesses.queues[queue];
  const uint64_t done = witness.done.load();
  uint64_t next = done;
  if (!entries.empty()) {
    next = entries.front().offset;
    if (entries.back().offset != done && entries.back().offset + 1 != done)
      return "the newest entry is not the newest append";
  }
  if (next > 0 && witness.before[(next - 1) % kWitnessed] >= witnesses.flush_begun.load())
    return "an entry is missing that no flush covered";
  for (const Entry& entry : entries) {
    if (entry.offset != next) return "an entry between others is missing";
    if (entry.payload != witnessed_payload(queue, next)) return "an entry has another payload";
    if (entry.sequence <= witnesses.flush_ended.load()) return "a flushed entry came back";
    if (entry.sequence <= witness.before[next % kWitnessed]) return "a number is too low";
    if (next < done && entry.sequence > witness.after[next % kWitnessed])
      return "a number is too high";
    ++next;
  }
  if (next == done + 1) {
    witness.after[done % kWitnessed] = entries.back().sequence;
    witness.done.store(next);
  }
  return "";
}

}  // namespace

TEST("a process that is stopped before any instruction leaves all that was appended") {
#ifdef __SANITIZE_THREAD__
  std::printf("# not shown: the sanitizer's own instructions would take minutes\n");
  return;
#endif
  Folder folder;
  const std::string path = folder.file();
  const std::string copy = folder.file("copy");
  auto* const done = share<std::atomic<uint64_t>>();
  const pid_t child = ::fork();
  if (child == 0) run_steps(path, done);
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child);
  if (!WIFSTOPPED(status)) {
    std::printf("# not shown: no permission to trace a process\n");
    return;
  }
  Fd file(::open(path.c_str(), O_RDONLY));
  std::string bytes(static_cast<size_t>(::lseek(file.get(), 0, SEEK_END)), '\0');
  std::string last;
  size_t steps = 0;
  size_t states = 0;
  bool ok = true;
  while (WIFSTOPPED(status) && ok) {
    ::pread(file.get(), bytes.data(), bytes.size(), 0);
    if (bytes != last) {
      last = bytes;
      ++states;
      const size_t at = done->load();
      std::vector<Entry> entries;
      ok = entries_in(copy, bytes, &entries) &&
           (entries == after_steps(at) || entries == after_steps(at + 1));
      if (!ok) std::printf("# after %zu instructions, in step %zu\n", steps, at);
    }
    ++steps;
    ::ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr);
    ::waitpid(child, &status, 0);
  }
  if (!ok) ::kill(child, SIGKILL);
  CHECK(ok && done->load() == kSteps.size());
  CHECK(steps > 1000 && states > 4 * kSteps.size());
  std::printf("# %zu instructions, %zu states of the file\n", steps, states);
}

TEST("threads that are killed together leave all that they appended, generation after generation") {
  Folder folder;
  const std::string path = folder.file();
  create(path, kThreads).reset();
  auto* const witnesses = share<Witnesses>();
  std::mt19937 random(7);
  size_t found = 0;
  for (int generation = 0; generation < 150; ++generation) {
    const uint64_t before = appended(*witnesses);
    const pid_t child = ::fork();
    if (child == 0) {
      Log log = reopen(path, kThreads);
      std::vector<std::thread> threads;
      for (unsigned queue = 0; queue < kThreads; ++queue)
        threads.emplace_back([&, queue] { append_without_end(*log, queue, *witnesses); });
      for (std::thread& thread : threads)
        thread.join();
    }
    // Some are killed while they begin; the others have something to leave, on a slow machine too.
    while (generation % 8 != 0 && appended(*witnesses) == before)
      ::usleep(100);
    ::usleep(static_cast<useconds_t>(1000 + random() % 4000));
    ::kill(child, SIGKILL);
    int status = 0;
    CHECK(::waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGKILL);
    Log log = reopen(path, kThreads);
    const std::vector<Entry> all = entries_of(*log);
    found += all.size();
    CHECK(std::is_sorted(all.begin(), all.end(), [](const Entry& first, const Entry& second) {
      return first.sequence < second.sequence;
    }));
    for (unsigned queue = 0; queue < kThreads; ++queue) {
      std::vector<Entry> own;
      for (const Entry& entry : all) {
        const uint64_t number = entry.offset;
        if (entry.payload == witnessed_payload(queue, number)) own.push_back(entry);
      }
      const char* const wrong = judge(queue, own, *witnesses);
      if (*wrong != '\0') std::printf("# queue %u: %s\n", queue, wrong);
      CHECK(*wrong == '\0');
    }
  }
  std::printf("# %zu entries found after 150 kills\n", found);
  CHECK(found > 150);
}

TEST_MAIN()
