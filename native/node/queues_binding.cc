// Owns: the implementation of Queues (see queues_binding.h).
// Runs on: the JS thread; start() blocks on libuv's pool; on_event() runs on queue threads.
// Must not: end the queues; the kernel's STOP does, and `stopped` tells.
#include "node/queues_binding.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "node/adapter_spec.h"
#include "node/args.h"
#include "node/nbd_spec.h"

namespace unbd::node {

struct QueuesBinding::Event {
  unsigned queue;
  std::string kind;
  std::string text;
};

namespace {

class StartWorker : public Napi::AsyncWorker {
 public:
  StartWorker(Napi::Env env, QueuesBinding* owner)
      : Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), owner_(owner) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override { result_ = owner_->queues()->start(&error_text_); }

  void OnOK() override {
    Napi::HandleScope scope(Env());
    if (result_ == 0) {
      deferred_.Resolve(Env().Undefined());
      return;
    }
    owner_->start_failed();
    deferred_.Reject(errno_error(Env(), -result_, error_text_).Value());
  }

 private:
  Napi::Promise::Deferred deferred_;
  QueuesBinding* owner_;
  int result_ = 0;
  std::string error_text_;
};

bool read_config(const Napi::Object& spec, QueuesConfig* config) {
  bool ok = true;
  config->dev_id = static_cast<int>(read_uint32(spec, "devId", &ok));
  config->char_device_path = read_string(spec, "charDevicePath", &ok);
  config->queue_count = read_uint32(spec, "queueCount", &ok);
  config->depth = read_uint32(spec, "depth", &ok);
  config->max_io_bytes = read_uint32(spec, "maxIoBytes", &ok);
  config->size_bytes = read_uint64(spec, "sizeBytes", &ok);
  config->read_only = read_bool(spec, "readOnly", &ok);
  config->suppress_partition_scan = read_bool(spec, "noPartitionScan", &ok);
  std::string data_path = read_string(spec, "dataPath", &ok);
  if (ok && (config->queue_count < 1 || config->queue_count > 4096))
    complain(spec.Env(), "queueCount", "1 to 4096", &ok);
  if (ok && (config->depth < 1 || config->depth > 4096))
    complain(spec.Env(), "depth", "1 to 4096", &ok);
  if (ok && data_path != "copy" && data_path != "user-copy")
    complain(spec.Env(), "dataPath", "copy or user-copy", &ok);
  config->data_path = data_path == "user-copy" ? DataPath::kUserCopy : DataPath::kCopy;
  return ok;
}

}  // namespace

Napi::Function QueuesBinding::define(Napi::Env env) {
  return DefineClass(
      env, "Queues",
      {InstanceMethod<&QueuesBinding::start>("start"), InstanceMethod<&QueuesBinding::hold>("hold"),
       InstanceMethod<&QueuesBinding::resume>("resume"),
       InstanceMethod<&QueuesBinding::fail_all>("failAll"),
       InstanceMethod<&QueuesBinding::quiesce>("quiesce"),
       InstanceMethod<&QueuesBinding::unquiesce>("unquiesce"),
       InstanceMethod<&QueuesBinding::stats>("stats"),
       InstanceMethod<&QueuesBinding::state>("state")});
}

QueuesBinding::QueuesBinding(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<QueuesBinding>(info) {
  Napi::Env env = info.Env();
  if (info.Length() < 2 || !info[0].IsObject() || !info[1].IsFunction()) {
    Napi::TypeError::New(env, "Queues needs a spec and a listener").ThrowAsJavaScriptException();
    return;
  }
  Napi::Object spec = info[0].As<Napi::Object>();
  QueuesConfig config;
  if (!read_config(spec, &config)) return;
  if (!spec.Get("adapter").IsObject()) {
    Napi::TypeError::New(env, "adapter must be an object").ThrowAsJavaScriptException();
    return;
  }
  std::vector<std::unique_ptr<Adapter>> adapters =
      make_adapters(spec.Get("adapter").As<Napi::Object>(), config, &nbd_);
  if (adapters.empty()) return;
  queue_count_ = config.queue_count;
  holds_obeyed_.resize(queue_count_);
  rounds_answered_.resize(queue_count_);
  // Unbounded towards JS, but bounded at its sources: an adapter posts a few events a connection.
  events_ =
      Napi::ThreadSafeFunction::New(env, info[1].As<Napi::Function>(), "ublk-nbd queues", 0, 1);
  queues_ = std::make_unique<DeviceQueues>(std::move(config), std::move(adapters), *this);
}

QueuesBinding::~QueuesBinding() {
  // At the end of the process the threads may still run; they own what they use, so it is left to
  // them.
  if (running_) (void)queues_.release();
}

Napi::Value QueuesBinding::start(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (queues_ == nullptr || running_) {
    errno_error(env, EALREADY, "the queues were started before").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  running_ = true;
  Ref();
  auto* worker = new StartWorker(env, this);
  worker->Queue();
  return worker->promise();
}

void QueuesBinding::finish() {
  running_ = false;
  end_hold();
  end_quiesce(false);
  queues_.reset();
  events_.Release();
  Unref();
}

void QueuesBinding::fail_all(const Napi::CallbackInfo&) {
  if (queues_ != nullptr) queues_->fail_all();
}

Napi::Value QueuesBinding::hold(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!running_) {
    Napi::Promise::Deferred nothing_runs = Napi::Promise::Deferred::New(env);
    nothing_runs.Resolve(env.Undefined());
    return nothing_runs.Promise();
  }
  ++hold_calls_;
  if (hold_ == nullptr)
    hold_ = std::make_unique<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env));
  queues_->hold();
  return hold_->Promise();
}

void QueuesBinding::held(unsigned queue, uint32_t calls) {
  holds_obeyed_[queue] = calls;
  if (std::ranges::min(holds_obeyed_) == hold_calls_) end_hold();
}

void QueuesBinding::end_hold() {
  if (hold_ == nullptr) return;
  hold_->Resolve(Env().Undefined());
  hold_.reset();
}

Napi::Value QueuesBinding::quiesce(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const Napi::Promise::Deferred answer = Napi::Promise::Deferred::New(env);
  if (!running_) {
    answer.Resolve(Napi::Boolean::New(env, true));
    return answer.Promise();
  }
  // Rounds that quiesce are odd; one that was not ended is answered with the next.
  quiesce_round_ += quiesce_round_ % 2 == 0 ? 1 : 2;
  if (quiesce_ == nullptr) quiesce_ = std::make_unique<Napi::Promise::Deferred>(answer);
  queues_->quiesce(quiesce_round_);
  return quiesce_->Promise();
}

void QueuesBinding::unquiesce(const Napi::CallbackInfo&) {
  if (!running_ || quiesce_round_ % 2 == 0) return;
  end_quiesce(false);
  queues_->quiesce(++quiesce_round_);
}

void QueuesBinding::quiesced(unsigned queue, uint32_t round) {
  rounds_answered_[queue] = round;
  if (std::ranges::all_of(rounds_answered_, [this](uint32_t r) { return r == quiesce_round_; }))
    end_quiesce(true);
}

void QueuesBinding::end_quiesce(bool quiet) {
  if (quiesce_ == nullptr) return;
  quiesce_->Resolve(Napi::Boolean::New(Env(), quiet));
  quiesce_.reset();
}

void QueuesBinding::resume(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (nbd_ == nullptr || info.Length() < 1 || !info[0].IsObject()) {
    Napi::TypeError::New(env, "resume needs NBD queues and a connection")
        .ThrowAsJavaScriptException();
    return;
  }
  std::vector<std::unique_ptr<BackendConnection>> connections =
      make_nbd_connections(info[0].As<Napi::Object>(), *nbd_, queue_count_);
  if (!connections.empty() && running_) queues_->resume(std::move(connections));
}

Napi::Value QueuesBinding::stats(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  QueuesStats totals = queues_ != nullptr ? queues_->stats() : last_stats_;
  Napi::Object result = Napi::Object::New(env);
  auto set = [&](const char* name, uint64_t value) {
    result.Set(name, Napi::BigInt::New(env, value));
  };
  set("reads", totals.reads);
  set("readBytes", totals.read_bytes);
  set("writes", totals.writes);
  set("writeBytes", totals.write_bytes);
  set("flushes", totals.flushes);
  set("discards", totals.discards);
  set("writeZeroes", totals.write_zeroes);
  set("errors", totals.errors);
  set("staleCompletions", totals.stale_completions);
  set("replayedRequests", nbd_ != nullptr ? nbd_->replayed_requests() : 0);
  set("unflushedBytes", nbd_ != nullptr ? nbd_->unflushed_bytes() : 0);
  result.Set("inFlight", Napi::Number::New(env, static_cast<double>(totals.in_flight)));
  return result;
}

Napi::Value QueuesBinding::state(const Napi::CallbackInfo& info) {
  static constexpr const char* kNames[NbdDevice::kStates] = {"connected", "holding", "failing",
                                                             "fatal"};
  const NbdDevice::State state = nbd_ != nullptr ? nbd_->state() : NbdDevice::State::kConnected;
  return Napi::String::New(info.Env(), kNames[static_cast<unsigned>(state)]);
}

void QueuesBinding::on_event(unsigned queue, std::string_view kind, std::string_view text) {
  auto* event = new Event{queue, std::string(kind), std::string(text)};
  napi_status status = events_.NonBlockingCall(
      event, [this](Napi::Env env, Napi::Function callback, Event* delivered) {
        if (env != nullptr) deliver(env, callback, *delivered);
        delete delivered;
      });
  // The environment is going away, and with it everybody who would have listened.
  if (status != napi_ok) delete event;
}

void QueuesBinding::deliver(Napi::Env env, Napi::Function callback, const Event& event) {
  if (event.kind == "held") {
    held(event.queue, static_cast<uint32_t>(std::strtoul(event.text.c_str(), nullptr, 10)));
    return;
  }
  if (event.kind == "quiesced") {
    quiesced(event.queue, static_cast<uint32_t>(std::strtoul(event.text.c_str(), nullptr, 10)));
    return;
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("kind", event.kind);
  object.Set("queue", Napi::Number::New(env, event.queue));
  object.Set("text", event.text);
  bool last = event.kind == "stopped";
  if (last) {
    last_stats_ = queues_->stats();
    finish();
  }
  callback.Call({object});
}

}  // namespace unbd::node
