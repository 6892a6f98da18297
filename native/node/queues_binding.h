// Owns: Queues of src/gateway/native.ts: the queue threads of one device, seen from JS. JS thread;
// events arrive from queue threads through one ThreadSafeFunction. Must not: be on the request
// path.
#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "nbd/device.h"
#include "queue/device_queues.h"

namespace unbd::node {

class QueuesBinding : public Napi::ObjectWrap<QueuesBinding>, public QueuesListener {
 public:
  static Napi::Function define(Napi::Env env);
  explicit QueuesBinding(const Napi::CallbackInfo& info);
  ~QueuesBinding() override;

  // QueuesListener; any thread.
  void on_event(unsigned queue, std::string_view kind, std::string_view text) override;

  DeviceQueues* queues() { return queues_.get(); }
  // start() undid everything; the object is of no further use.
  void start_failed() { finish(); }

 private:
  struct Event;

  Napi::Value start(const Napi::CallbackInfo& info);
  void fail_all(const Napi::CallbackInfo& info);
  Napi::Value hold(const Napi::CallbackInfo& info);
  void resume(const Napi::CallbackInfo& info);
  Napi::Value quiesce(const Napi::CallbackInfo& info);
  void unquiesce(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value state(const Napi::CallbackInfo& info);
  void deliver(Napi::Env env, Napi::Function callback, const Event& event);
  void held(unsigned queue, uint32_t calls);
  void end_hold();
  void quiesced(unsigned queue, uint32_t round);
  void end_quiesce(bool quiet);

  // Joins the threads, which have ended, and lets go of the listener and of this object.
  void finish();

  std::unique_ptr<DeviceQueues> queues_;
  std::shared_ptr<NbdDevice> nbd_;  // null for other adapters
  unsigned queue_count_ = 0;
  Napi::ThreadSafeFunction events_;
  QueuesStats last_stats_;
  bool running_ = false;
  // Calls of hold(): how many there were, and how many of them each queue has obeyed.
  uint32_t hold_calls_ = 0;
  std::vector<uint32_t> holds_obeyed_;
  std::unique_ptr<Napi::Promise::Deferred> hold_;  // of those that one queue has not
  // See DeviceQueues::quiesce(): the last round, and the last that each queue has answered.
  uint32_t quiesce_round_ = 0;
  std::vector<uint32_t> rounds_answered_;
  std::unique_ptr<Napi::Promise::Deferred> quiesce_;  // until every queue is quiet
};

}  // namespace unbd::node
