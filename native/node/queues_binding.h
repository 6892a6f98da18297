// Owns: Queues of src/gateway/native.ts: the queue threads of one device, seen from JS. JS thread;
// events arrive from queue threads through one ThreadSafeFunction. Must not: be on the request
// path.
#pragma once

#include <napi.h>

#include <memory>
#include <string>
#include <string_view>

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
  Napi::Value stats(const Napi::CallbackInfo& info);
  void deliver(Napi::Env env, Napi::Function callback, const Event& event);

  // Joins the threads, which have ended, and lets go of the listener and of this object.
  void finish();

  std::unique_ptr<DeviceQueues> queues_;
  Napi::ThreadSafeFunction events_;
  QueuesStats last_stats_;
  bool running_ = false;
};

}  // namespace unbd::node
