// Owns: the checks of DeviceQueues as far as they go without the driver: every way in which start()
// fails leaves nothing behind. One thread, and the queues' own.
// Must not: need a privilege or a ublk device.
#include "queue/device_queues.h"

#include <dirent.h>
#include <fcntl.h>

#include <atomic>
#include <cerrno>

#include "base/clock.h"
#include "base/fd.h"
#include "ring/ring.h"
#include "ring/user_data.h"
#include "test/check.h"

using namespace unbd;

namespace {

std::atomic<int> adapters_alive{0};
std::atomic<int> goodbyes{0};

// Takes a few turns of the ring to stop, as a connection does that says goodbye.
class SlowToStop final : public Adapter {
 public:
  explicit SlowToStop(int start_result) : start_result_(start_result) { ++adapters_alive; }
  ~SlowToStop() override { --adapters_alive; }
  int start(Ring& ring, CompletionSink&, EventSink&) override {
    ring_ = &ring;
    return start_result_;
  }
  void submit(std::span<const Request>) override {}
  void on_cqe(uint64_t, int32_t, uint32_t) override {
    if (--turns_left_ > 0) stage();
  }
  void end_turn() override {}
  void fail_all(int) override {}
  void stop() override {
    ++goodbyes;
    turns_left_ = 3;
    stage();
  }
  bool stopped() const override { return turns_left_ == 0; }

 private:
  void stage() {
    io_uring_sqe* sqe = ring_->get_sqe();
    io_uring_prep_nop(sqe);
    sqe->user_data = make_user_data(UserDataKind::kAdapter, 1);
  }

  int start_result_;
  Ring* ring_ = nullptr;
  int turns_left_ = -1;
};

class NoEvents final : public QueuesListener {
 public:
  void on_event(unsigned, std::string_view kind, std::string_view) override {
    if (kind == "stopped") ++stopped;
  }
  std::atomic<int> stopped{0};
};

int count_entries(const char* path) {
  int count = 0;
  DIR* folder = ::opendir(path);
  while (::readdir(folder) != nullptr)
    ++count;
  ::closedir(folder);
  return count;
}

// A joined thread stays in the list for a moment; so it is looked for until it is gone, or too
// long.
bool queue_threads_end() {
  for (uint64_t give_up_ms = monotonic_ms() + 60'000; monotonic_ms() < give_up_ms;) {
    bool found = false;
    DIR* folder = ::opendir("/proc/self/task");
    while (const dirent* entry = ::readdir(folder)) {
      char name[32] = {};
      std::string path = std::string("/proc/self/task/") + entry->d_name + "/comm";
      Fd comm(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      if (comm.valid() && ::read(comm.get(), name, sizeof(name) - 1) > 0)
        found = found || std::string_view(name).starts_with("ublk-q");
    }
    ::closedir(folder);
    if (!found) return true;
  }
  return false;
}

struct Outcome {
  int result;
  std::string text;
  int descriptors_left;
  bool threads_left;
  int stopped_events;
};

Outcome start(const char* path, int second_adapter_result) {
  int descriptors = count_entries("/proc/self/fd");
  NoEvents listener;
  QueuesConfig config{.dev_id = 0, .char_device_path = path, .queue_count = 3, .depth = 8};
  config.max_io_bytes = 65536;
  config.size_bytes = 1 << 20;
  std::vector<std::unique_ptr<Adapter>> adapters;
  for (int i = 0; i < 3; ++i)
    adapters.push_back(std::make_unique<SlowToStop>(i == 1 ? second_adapter_result : 0));
  Outcome outcome{};
  {
    DeviceQueues queues(config, std::move(adapters), listener);
    outcome.result = queues.start(&outcome.text);
    outcome.stopped_events = listener.stopped;
  }
  outcome.descriptors_left = count_entries("/proc/self/fd") - descriptors;
  outcome.threads_left = !queue_threads_end();
  return outcome;
}

bool nothing_is_left(const Outcome& outcome) {
  return outcome.descriptors_left == 0 && !outcome.threads_left && outcome.stopped_events == 0 &&
         adapters_alive == 0;
}

}  // namespace

TEST("a char device that is not there is an error that names it, after a bounded wait") {
  Outcome outcome = start("/nonexistent/ublkc0", 0);
  CHECK(outcome.result == -ENOENT);
  CHECK(outcome.text == "cannot open /nonexistent/ublkc0: ENOENT");
  CHECK(nothing_is_left(outcome));
}

TEST("descriptors that cannot be mapped are an error, and every adapter is destroyed") {
  Outcome outcome = start("/dev/null", 0);
  CHECK(outcome.result == -ENODEV);
  CHECK(outcome.text.starts_with("queue 0: cannot map the request descriptors"));
  CHECK(nothing_is_left(outcome));
}

TEST("when FETCH is refused the adapters say goodbye before start returns") {
  goodbyes = 0;
  Outcome outcome = start("/dev/zero", 0);
  CHECK(outcome.result == -EOPNOTSUPP);
  CHECK(outcome.text == "queue 0: the driver refused to take the queue's tags: EOPNOTSUPP");
  CHECK(goodbyes == 3);
  CHECK(nothing_is_left(outcome));
}

TEST("an adapter that cannot start fails the whole device") {
  goodbyes = 0;
  Outcome outcome = start("/dev/zero", -ECONNRESET);
  CHECK(outcome.result < 0);
  CHECK(goodbyes == 2);
  CHECK(nothing_is_left(outcome));
}

TEST_MAIN()
