// Owns: the implementation of DeviceQueues (see device_queues.h).
// Runs on: as said there; thread_main on each queue's thread.
// Must not: issue a control command that can block.
#include "queue/device_queues.h"

#include <cerrno>
#include <utility>

#include "base/assert.h"
#include "base/errno_name.h"
#include "queue/queue.h"
#include "queue/queue_thread.h"
#include "ublk/control.h"

namespace unbd {
namespace {

class LockGuard {
 public:
  explicit LockGuard(pthread_mutex_t* lock) : lock_(lock) { ::pthread_mutex_lock(lock_); }
  ~LockGuard() { ::pthread_mutex_unlock(lock_); }
  LockGuard(const LockGuard&) = delete;
  LockGuard& operator=(const LockGuard&) = delete;

 private:
  pthread_mutex_t* lock_;
};

// Empty lists where the driver does not tell: the threads then run anywhere.
std::vector<std::vector<unsigned>> read_affinity(int dev_id, unsigned queue_count) {
  std::vector<std::vector<unsigned>> cpus(queue_count);
  Control control;
  Control::OpenStep failed;
  if (control.open(&failed) != 0) return cpus;
  for (unsigned queue = 0; queue < queue_count; ++queue)
    control.get_queue_affinity(static_cast<uint32_t>(dev_id), static_cast<uint16_t>(queue),
                               &cpus[queue]);
  return cpus;
}

}  // namespace

struct DeviceQueues::Worker {
  Worker(DeviceQueues* owner_in, unsigned index_in)
      : owner(owner_in), index(index_in), queue(owner_in->config_, index_in, owner_in->listener_) {}

  DeviceQueues* const owner;
  const unsigned index;
  Queue queue;
  std::unique_ptr<Adapter> adapter;  // until the queue's thread takes it
  std::vector<unsigned> cpus;
  pthread_t thread{};
  bool has_thread = false;
  int result = 0;  // of set_up, under lock_ once the thread runs
  std::string error_text;
};

DeviceQueues::DeviceQueues(QueuesConfig config, std::vector<std::unique_ptr<Adapter>> one_per_queue,
                           QueuesListener& listener)
    : config_(std::move(config)), listener_(listener) {
  UN_ASSERT(config_.queue_count > 0 && one_per_queue.size() == config_.queue_count);
  if (config_.char_device_path.empty())
    config_.char_device_path = "/dev/ublkc" + std::to_string(config_.dev_id);
  for (unsigned index = 0; index < config_.queue_count; ++index) {
    workers_.push_back(std::make_unique<Worker>(this, index));
    workers_.back()->adapter = std::move(one_per_queue[index]);
  }
}

DeviceQueues::~DeviceQueues() {
  join();
}

int DeviceQueues::start(std::string* error_text) {
  UN_ASSERT(verdict_ == Verdict::kPending);
  int result = open_device(error_text);
  if (result == 0) result = create_threads(error_text);
  {
    LockGuard guard(&lock_);
    verdict_ = result == 0 ? Verdict::kServe : Verdict::kUndo;
    if (result == 0) serving_ = config_.queue_count;
    ::pthread_cond_broadcast(&changed_);
  }
  if (result != 0) {
    join();
    char_device_.close();
    for (const std::unique_ptr<Worker>& worker : workers_)
      worker->adapter.reset();
  }
  return result;
}

int DeviceQueues::open_device(std::string* error_text) {
  int result = char_device_.open(config_.char_device_path);
  if (result != 0)
    *error_text = "cannot open " + config_.char_device_path + ": " + errno_name(-result);
  return result;
}

// Returns when every thread that could be made has finished its set_up: 0, or the first failure.
int DeviceQueues::create_threads(std::string* error_text) {
  std::vector<std::vector<unsigned>> cpus = read_affinity(config_.dev_id, config_.queue_count);
  unsigned created = 0;
  int result = 0;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->cpus = std::move(cpus[worker->index]);
    *error_text = "cannot make a queue's eventfd";
    result = worker->queue.mailbox_error();
    if (result != 0) break;
    *error_text = "cannot make a queue's thread";
    result = create_queue_thread(&worker->thread, thread_main, worker.get());
    if (result != 0) break;
    worker->has_thread = true;
    ++created;
  }
  if (result != 0) *error_text += std::string(": ") + errno_name(-result);
  LockGuard guard(&lock_);
  while (reported_ < created)
    ::pthread_cond_wait(&changed_, &lock_);
  for (unsigned index = 0; result == 0 && index < created; ++index) {
    const Worker& worker = *workers_[index];
    result = worker.result;
    *error_text = worker.error_text;
  }
  return result;
}

void* DeviceQueues::thread_main(void* argument) {
  Worker& worker = *static_cast<Worker*>(argument);
  DeviceQueues& owner = *worker.owner;
  become_queue_thread(worker.index, owner.config_.dev_id, worker.cpus);
  std::string text;
  int result = worker.queue.set_up(owner.char_device_, std::move(worker.adapter), &text);
  owner.report(worker, result, std::move(text));
  // A thread that waits here answers no request; START_DEV comes only after the verdict.
  if (owner.await_verdict() == Verdict::kUndo) {
    worker.queue.abandon();
    worker.queue.tear_down();
    return nullptr;
  }
  worker.queue.serve();
  worker.queue.tear_down();
  owner.queue_ended();
  return nullptr;
}

void DeviceQueues::report(Worker& worker, int result, std::string text) {
  LockGuard guard(&lock_);
  worker.result = result;
  if (result != 0)
    worker.error_text =
        "queue " + std::to_string(worker.index) + ": " + text + ": " + errno_name(-result);
  ++reported_;
  ::pthread_cond_broadcast(&changed_);
}

DeviceQueues::Verdict DeviceQueues::await_verdict() {
  LockGuard guard(&lock_);
  while (verdict_ == Verdict::kPending)
    ::pthread_cond_wait(&changed_, &lock_);
  return verdict_;
}

void DeviceQueues::queue_ended() {
  bool last = false;
  {
    LockGuard guard(&lock_);
    last = --serving_ == 0;
  }
  if (!last) return;
  char_device_.close();
  listener_.on_event(0, "stopped", "");
}

void DeviceQueues::join() {
  for (const std::unique_ptr<Worker>& worker : workers_) {
    if (!worker->has_thread) continue;
    ::pthread_join(worker->thread, nullptr);
    worker->has_thread = false;
  }
}

void DeviceQueues::fail_all() {
  for (const std::unique_ptr<Worker>& worker : workers_)
    worker->queue.post_fail_all();
}

void DeviceQueues::hold() {
  for (const std::unique_ptr<Worker>& worker : workers_)
    worker->queue.post_hold();
}

void DeviceQueues::resume(std::vector<std::unique_ptr<BackendConnection>> one_per_queue) {
  UN_ASSERT(one_per_queue.size() == workers_.size());
  for (const std::unique_ptr<Worker>& worker : workers_)
    worker->queue.post_resume(std::move(one_per_queue[worker->index]));
}

void DeviceQueues::quiesce(uint32_t round) {
  for (const std::unique_ptr<Worker>& worker : workers_)
    worker->queue.post_quiesce(round);
}

QueuesStats DeviceQueues::stats() const {
  QueuesStats stats;
  for (const std::unique_ptr<Worker>& worker : workers_)
    worker->queue.add_stats_to(&stats);
  return stats;
}

}  // namespace unbd
