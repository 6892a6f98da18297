// Owns: the implementation of UnflushedLog (see unflushed_log_binding.h).
// Runs on: the JS thread; ReplayWorker::Execute on libuv's pool.
// Must not: read the log's entries while queues append.
#include "node/unflushed_log_binding.h"

#include <time.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "nbd/log_replay.h"
#include "node/args.h"
#include "node/transport_binding.h"

namespace unbd::node {
namespace {

constexpr napi_type_tag kTag = {0x756e62642d6c6f67, 0x756e666c75736865};
constexpr uint64_t kForEver = UINT64_MAX;
constexpr uint64_t kMs = 1'000'000;
constexpr uint32_t kBlockBytesMinimumMax = 64 * 1024;

// Goes on while the machine sleeps, and is the same in every process.
uint64_t boottime_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

const char* name_of(ReplayResult::Outcome outcome) {
  switch (outcome) {
    case ReplayResult::Outcome::kDone:
      return "done";
    case ReplayResult::Outcome::kLost:
      return "lost";
    case ReplayResult::Outcome::kTimedOut:
      return "timed-out";
    case ReplayResult::Outcome::kViolation:
      return "violation";
    case ReplayResult::Outcome::kRefused:
      return "refused";
    case ReplayResult::Outcome::kUnfit:
      return "unfit";
  }
  __builtin_unreachable();
}

Napi::Object totals_to_js(Napi::Env env, const LogTotals& totals) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("entries", Napi::Number::New(env, static_cast<double>(totals.entries)));
  object.Set("bytes", Napi::BigInt::New(env, totals.bytes));
  return object;
}

bool read_replay_config(const Napi::Object& from, ReplayConfig* config) {
  bool ok = true;
  config->size_bytes = read_uint64(from, "sizeBytes", &ok);
  config->structured_replies = read_bool(from, "structuredReplies", &ok);
  config->can_trim = read_bool(from, "canTrim", &ok);
  config->can_write_zeroes = read_bool(from, "canWriteZeroes", &ok);
  config->maximum_block_bytes = read_uint32(from, "maximumBlockBytes", &ok);
  config->minimum_block_bytes = read_uint32(from, "minimumBlockBytes", &ok);
  config->epoch = static_cast<uint16_t>(read_uint32(from, "epoch", &ok));
  if (ok &&
      (config->minimum_block_bytes < 1 || config->minimum_block_bytes > kBlockBytesMinimumMax))
    complain(from.Env(), "minimumBlockBytes", "1 to 65536", &ok);
  return ok;
}

// Keeps the log and the transport's JS object alive meanwhile.
class ReplayWorker : public Napi::AsyncWorker {
 public:
  ReplayWorker(Napi::Env env, std::shared_ptr<UnflushedLog> log, TransportBinding* transport,
               const ReplayConfig& config, int patience_ms)
      : Napi::AsyncWorker(env),
        deferred_(Napi::Promise::Deferred::New(env)),
        log_(std::move(log)),
        binding_(transport),
        transport_(transport->transport()),
        config_(config),
        patience_ms_(patience_ms) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override { result_ = replay_log(*transport_, config_, *log_, patience_ms_); }

  void OnOK() override {
    Napi::HandleScope scope(Env());
    binding_->give_back();
    if (result_.outcome == ReplayResult::Outcome::kDone) {
      deferred_.Resolve(totals_to_js(Env(), result_.replayed));
      return;
    }
    Napi::Error error = errno_error(Env(), -result_.error, result_.reason);
    error.Set("outcome", Napi::String::New(Env(), name_of(result_.outcome)));
    deferred_.Reject(error.Value());
  }

 private:
  Napi::Promise::Deferred deferred_;
  std::shared_ptr<UnflushedLog> log_;
  TransportBinding* binding_;
  Transport* transport_;
  ReplayConfig config_;
  int patience_ms_;
  ReplayResult result_;
};

}  // namespace

Napi::Function UnflushedLogBinding::define(Napi::Env env) {
  using Self = UnflushedLogBinding;
  return DefineClass(
      env, "UnflushedLog",
      {StaticMethod<&Self::create>("create"), StaticMethod<&Self::open>("open"),
       InstanceAccessor<&Self::entries>("entries"), InstanceAccessor<&Self::bytes>("bytes"),
       InstanceAccessor<&Self::hold_deadline, &Self::set_hold_deadline>("holdDeadlineMs"),
       InstanceMethod<&Self::next_epoch>("nextEpoch"), InstanceMethod<&Self::replay>("replay"),
       InstanceMethod<&Self::unlink>("unlink"), InstanceMethod<&Self::close>("close")});
}

// Made by create() and open(); an object that JS makes itself is a closed log.
UnflushedLogBinding::UnflushedLogBinding(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<UnflushedLogBinding>(info) {
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

UnflushedLogBinding* UnflushedLogBinding::unwrap(const Napi::Value& value) {
  if (value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kTag))
    return Unwrap(value.As<Napi::Object>());
  Napi::TypeError::New(value.Env(), "log must be an UnflushedLog").ThrowAsJavaScriptException();
  return nullptr;
}

std::shared_ptr<UnflushedLog> UnflushedLogBinding::share(const Napi::Value& value) {
  UnflushedLogBinding* const binding = unwrap(value);
  if (binding == nullptr || !binding->is_open(value.Env())) return nullptr;
  return binding->log_;
}

bool UnflushedLogBinding::is_open(Napi::Env env) const {
  if (log_ == nullptr)
    errno_error(env, EBADF, "the log of unflushed writes is closed").ThrowAsJavaScriptException();
  return log_ != nullptr;
}

Napi::Value UnflushedLogBinding::create(const Napi::CallbackInfo& info) {
  return make(info, &UnflushedLog::create);
}

Napi::Value UnflushedLogBinding::open(const Napi::CallbackInfo& info) {
  return make(info, &UnflushedLog::open);
}

Napi::Value UnflushedLogBinding::make(const Napi::CallbackInfo& info, Make make) {
  Napi::Env env = info.Env();
  if (info.Length() < 3 || !info[0].IsString() || !info[1].IsNumber() || !info[2].IsNumber() ||
      !info.This().IsFunction()) {
    Napi::TypeError::New(env, "UnflushedLog needs a path, queues and bytesPerQueue")
        .ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  const double queues = std::clamp(info[1].As<Napi::Number>().DoubleValue(), 0.0, 1e6);
  const double bytes = std::clamp(info[2].As<Napi::Number>().DoubleValue(), 0.0, 1e12);
  std::shared_ptr<UnflushedLog> log;
  std::string reason;
  const int result =
      make(path, static_cast<unsigned>(queues), static_cast<uint64_t>(bytes), &log, &reason);
  if (result < 0) {
    errno_error(env, -result, "the log of unflushed writes, " + path + ": " + reason)
        .ThrowAsJavaScriptException();
    return env.Undefined();
  }
  Napi::Object object = info.This().As<Napi::Function>().New({});
  if (env.IsExceptionPending()) return env.Undefined();
  UnflushedLogBinding* const binding = unwrap(object);
  if (binding == nullptr) return env.Undefined();
  binding->log_ = std::move(log);
  return object;
}

Napi::Value UnflushedLogBinding::entries(const Napi::CallbackInfo& info) {
  const uint64_t entries = is_open(info.Env()) ? log_->totals().entries : 0;
  return Napi::Number::New(info.Env(), static_cast<double>(entries));
}

Napi::Value UnflushedLogBinding::bytes(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), is_open(info.Env()) ? log_->totals().bytes : 0);
}

Napi::Value UnflushedLogBinding::hold_deadline(const Napi::CallbackInfo& info) {
  const uint64_t deadline = is_open(info.Env()) ? log_->hold_deadline_ns() : 0;
  if (deadline == 0) return info.Env().Undefined();
  if (deadline == kForEver) return Napi::Number::New(info.Env(), -1);
  const uint64_t now = boottime_ns();
  const uint64_t left = deadline > now ? deadline - now : 0;
  return Napi::Number::New(info.Env(), static_cast<double>((left + kMs - 1) / kMs));
}

void UnflushedLogBinding::set_hold_deadline(const Napi::CallbackInfo& info,
                                            const Napi::Value& value) {
  if (!is_open(info.Env())) return;
  if (value.IsUndefined()) {
    log_->set_hold_deadline_ns(0);
    return;
  }
  const double left = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -2;
  // About 35 years, so that no sum overflows.
  if (left == -1) {
    log_->set_hold_deadline_ns(kForEver);
  } else if (left >= 0 && left <= 1e12) {
    log_->set_hold_deadline_ns(boottime_ns() + static_cast<uint64_t>(left * kMs));
  } else {
    Napi::TypeError::New(info.Env(), "holdDeadlineMs must be undefined, -1 or 0 to 1e12")
        .ThrowAsJavaScriptException();
  }
}

Napi::Value UnflushedLogBinding::next_epoch(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), is_open(info.Env()) ? log_->next_epoch() : 0);
}

Napi::Value UnflushedLogBinding::replay(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ReplayConfig config;
  if (info.Length() < 3 || !info[1].IsObject() || !info[2].IsNumber()) {
    Napi::TypeError::New(env, "replay needs a transport, a config and a timeout")
        .ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const double patience_ms =
      std::clamp(info[2].As<Napi::Number>().DoubleValue(), 0.0, 86'400'000.0);
  if (!is_open(env) || !read_replay_config(info[1].As<Napi::Object>(), &config))
    return env.Undefined();
  TransportBinding* const transport = TransportBinding::lend(info[0]);
  if (transport == nullptr) return env.Undefined();
  auto* worker = new ReplayWorker(env, log_, transport, config, static_cast<int>(patience_ms));
  worker->Queue();
  return worker->promise();
}

void UnflushedLogBinding::unlink(const Napi::CallbackInfo& info) {
  if (!is_open(info.Env())) return;
  const int result = log_->unlink();
  if (result < 0 && result != -ENOENT)
    errno_error(info.Env(), -result, "the log of unflushed writes cannot be removed")
        .ThrowAsJavaScriptException();
}

void UnflushedLogBinding::close(const Napi::CallbackInfo&) {
  log_.reset();
}

}  // namespace unbd::node
