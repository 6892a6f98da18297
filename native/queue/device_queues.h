// Owns: the queue threads of one device, and the char device that they share.
// Runs on: the control plane's threads: start(), hold(), resume(), quiesce() and the destructor
// from one at a time, fail_all() and stats() from any. Must not: issue a control command that can
// block (START, STOP, DEL): the process that owns I/O never does.
#pragma once

#include <pthread.h>

#include <memory>
#include <string>
#include <vector>

#include "adapter/adapter.h"
#include "queue/queue_types.h"
#include "ublk/char_device.h"

namespace unbd {

class Queue;

class DeviceQueues {
 public:
  // One adapter a queue. The listener outlives this object. Adapters are destroyed on their queue's
  // thread.
  DeviceQueues(QueuesConfig config, std::vector<std::unique_ptr<Adapter>> one_per_queue,
               QueuesListener& listener);
  // Joins the threads: they must have ended ("stopped"), or start() failed or was not called.
  ~DeviceQueues();
  DeviceQueues(const DeviceQueues&) = delete;
  DeviceQueues& operator=(const DeviceQueues&) = delete;

  // Opens the char device, starts the threads and returns when every tag has been given to FETCH:
  // 0, or -errno with everything undone and *error_text (one line, for people) set. It waits up to
  // about a second for the device's node, so not for an event loop's thread. Once. After it the
  // controller issues START_DEV.
  int start(std::string* error_text);

  // "Fail all now": every request in flight and every later one ends with EIO.
  void fail_all();

  // Every queue cuts its connection and lets its requests wait (Adapter::hold()). The listener gets
  // "held" from each queue that still runs, once for all calls that it had not answered before.
  void hold();

  // Every queue goes on with a connection of its own (Adapter::resume()), also after fail_all(),
  // where it is of no use. A later hold() takes back what a queue has not seen yet.
  void resume(std::vector<std::unique_ptr<BackendConnection>> one_per_queue);

  // With an odd round every queue finishes what its adapter has, and keeps what comes from it; the
  // listener gets "quiesced" (text: the round) from each when that is done. An even round, or
  // fail_all(), ends it: what was kept goes on. A process that dies quiesced has nothing in flight
  // at its backend, and the driver gives what was kept to its successor.
  void quiesce(uint32_t round);

  QueuesStats stats() const;

 private:
  enum class Verdict { kPending, kServe, kUndo };
  struct Worker;

  static void* thread_main(void* argument);
  int open_device(std::string* error_text);
  int create_threads(std::string* error_text);
  void report(Worker& worker, int result, std::string text);
  Verdict await_verdict();
  void queue_ended();
  void join();

  QueuesConfig config_;
  QueuesListener& listener_;
  CharDevice char_device_;
  std::vector<std::unique_ptr<Worker>> workers_;  // from the constructor on the same

  // Start and end only; no request takes this lock.
  pthread_mutex_t lock_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t changed_ = PTHREAD_COND_INITIALIZER;
  unsigned reported_ = 0;
  unsigned serving_ = 0;
  Verdict verdict_ = Verdict::kPending;
};

}  // namespace unbd
