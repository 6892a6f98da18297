// Owns: the implementation of NativeTransport (see transport_binding.h).
// Runs on: the JS thread; connect, send and recv block on libuv's pool, each under its own timeout.
// Must not: read ahead, so that a hand-over to a queue loses no byte.
#include "node/transport_binding.h"

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "node/args.h"
#include "transport/connect.h"

namespace unbd::node {
namespace {

constexpr size_t kMaxTransferBytes = 1 << 20;

// The class's constructor, one per environment, freed with it.
struct Constructors {
  Napi::FunctionReference transport;
};

class ConnectWorker : public Napi::AsyncWorker {
 public:
  ConnectWorker(Napi::Env env, Endpoint endpoint, int timeout_ms)
      : Napi::AsyncWorker(env),
        deferred_(Napi::Promise::Deferred::New(env)),
        endpoint_(std::move(endpoint)),
        timeout_ms_(timeout_ms) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override { result_ = connect_endpoint(endpoint_, timeout_ms_, &transport_); }

  void OnOK() override {
    Napi::HandleScope scope(Env());
    if (result_ < 0) {
      deferred_.Reject(errno_error(Env(), -result_, "").Value());
    } else {
      deferred_.Resolve(TransportBinding::make(Env(), std::move(transport_)));
    }
  }

 private:
  Napi::Promise::Deferred deferred_;
  Endpoint endpoint_;
  int timeout_ms_;
  int result_ = 0;
  std::unique_ptr<Transport> transport_;
};

// One send or receive of a handshake; keeps the JS object, and so the transport, alive meanwhile.
class TransferWorker : public Napi::AsyncWorker {
 public:
  enum class Direction { kSend, kRecv };

  TransferWorker(Napi::Env env, TransportBinding* owner, Direction direction,
                 std::vector<std::byte> bytes, int timeout_ms)
      : Napi::AsyncWorker(env),
        deferred_(Napi::Promise::Deferred::New(env)),
        owner_(owner),
        transport_(owner->transport()),
        direction_(direction),
        bytes_(std::move(bytes)),
        timeout_ms_(timeout_ms) {
    owner_->Ref();
  }

  Napi::Promise promise() const { return deferred_.Promise(); }

  void Execute() override {
    result_ = direction_ == Direction::kSend ? send_all(*transport_, bytes_, timeout_ms_)
                                             : recv_exactly(*transport_, bytes_, timeout_ms_);
  }

  void OnOK() override {
    Napi::HandleScope scope(Env());
    owner_->worker_done();
    if (result_ < 0) {
      deferred_.Reject(errno_error(Env(), -result_, "").Value());
    } else if (direction_ == Direction::kSend) {
      deferred_.Resolve(Env().Undefined());
    } else {
      deferred_.Resolve(Napi::Buffer<std::byte>::Copy(Env(), bytes_.data(), bytes_.size()));
    }
    owner_->Unref();
  }

 private:
  Napi::Promise::Deferred deferred_;
  TransportBinding* owner_;
  Transport* transport_;
  Direction direction_;
  std::vector<std::byte> bytes_;
  int timeout_ms_;
  int result_ = 0;
};

bool read_endpoint(const Napi::Object& from, Endpoint* endpoint) {
  bool ok = true;
  std::string kind = read_string(from, "kind", &ok);
  if (!ok) return false;
  if (kind == "tcp") {
    endpoint->kind = Endpoint::Kind::kTcp;
    endpoint->address = read_string(from, "address", &ok);
    endpoint->port = read_uint32(from, "port", &ok);
  } else if (kind == "unix") {
    endpoint->kind = Endpoint::Kind::kUnix;
    endpoint->path = read_string(from, "path", &ok);
  } else if (kind == "vsock") {
    endpoint->kind = Endpoint::Kind::kVsock;
    endpoint->cid = read_uint32(from, "cid", &ok);
    endpoint->port = read_uint32(from, "port", &ok);
  } else {
    complain(from.Env(), "kind", "tcp, unix or vsock", &ok);
  }
  return ok;
}

bool read_timeout(const Napi::Value& value, int* timeout_ms) {
  if (value.IsNumber()) {
    double number = value.As<Napi::Number>().DoubleValue();
    if (number >= 0 && number <= 86'400'000) {
      *timeout_ms = static_cast<int>(number);
      return true;
    }
  }
  Napi::TypeError::New(value.Env(), "timeoutMs must be 0 to 86400000").ThrowAsJavaScriptException();
  return false;
}

}  // namespace

void TransportBinding::define(Napi::Env env) {
  Napi::Function constructor = DefineClass(env, "NativeTransport",
                                           {InstanceMethod<&TransportBinding::send>("send"),
                                            InstanceMethod<&TransportBinding::recv>("recv"),
                                            InstanceMethod<&TransportBinding::close>("close")});
  auto* constructors = new Constructors{Napi::Persistent(constructor)};
  env.SetInstanceData<Constructors>(constructors);
}

Napi::Object TransportBinding::make(Napi::Env env, std::unique_ptr<Transport> transport) {
  Napi::Object object = env.GetInstanceData<Constructors>()->transport.New({});
  Unwrap(object)->transport_ = std::move(transport);
  return object;
}

TransportBinding::TransportBinding(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<TransportBinding>(info) {}

TransportBinding* TransportBinding::find_idle(const Napi::Value& value) {
  Napi::Env env = value.Env();
  if (value.IsObject() &&
      value.As<Napi::Object>().InstanceOf(env.GetInstanceData<Constructors>()->transport.Value())) {
    TransportBinding* binding = Unwrap(value.As<Napi::Object>());
    if (binding->transport_ != nullptr && binding->workers_ == 0) return binding;
  }
  Napi::TypeError::New(env, "transports must be open, idle NativeTransports")
      .ThrowAsJavaScriptException();
  return nullptr;
}

std::unique_ptr<Transport> TransportBinding::take(const Napi::Value& value) {
  TransportBinding* const binding = find_idle(value);
  return binding != nullptr ? std::move(binding->transport_) : nullptr;
}

TransportBinding* TransportBinding::lend(const Napi::Value& value) {
  TransportBinding* const binding = find_idle(value);
  if (binding == nullptr) return nullptr;
  ++binding->workers_;
  binding->Ref();
  return binding;
}

void TransportBinding::give_back() {
  worker_done();
  Unref();
}

void TransportBinding::worker_done() {
  --workers_;
  if (closing_ && workers_ == 0) transport_.reset();
}

Napi::Value TransportBinding::send(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int timeout_ms = 0;
  if (info.Length() < 2 || !info[0].IsTypedArray()) {
    Napi::TypeError::New(env, "bytes must be a Uint8Array").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  if (!read_timeout(info[1], &timeout_ms)) return env.Undefined();
  if (transport_ == nullptr || closing_) {
    errno_error(env, EBADF, "the transport is closed").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  auto view = info[0].As<Napi::Uint8Array>();
  std::vector<std::byte> bytes(view.ByteLength());
  if (!bytes.empty()) std::memcpy(bytes.data(), view.Data(), bytes.size());
  ++workers_;
  auto* worker =
      new TransferWorker(env, this, TransferWorker::Direction::kSend, std::move(bytes), timeout_ms);
  worker->Queue();
  return worker->promise();
}

Napi::Value TransportBinding::recv(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int timeout_ms = 0;
  double length =
      info.Length() >= 2 && info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : 0;
  if (length < 1 || length > static_cast<double>(kMaxTransferBytes)) {
    Napi::TypeError::New(env, "lengthBytes must be 1 to 1048576").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  if (!read_timeout(info[1], &timeout_ms)) return env.Undefined();
  if (transport_ == nullptr || closing_) {
    errno_error(env, EBADF, "the transport is closed").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  ++workers_;
  auto* worker =
      new TransferWorker(env, this, TransferWorker::Direction::kRecv,
                         std::vector<std::byte>(static_cast<size_t>(length)), timeout_ms);
  worker->Queue();
  return worker->promise();
}

void TransportBinding::close(const Napi::CallbackInfo&) {
  if (transport_ == nullptr || closing_) return;
  if (workers_ == 0) {
    transport_.reset();
    return;
  }
  closing_ = true;
  transport_->shutdown();
}

Napi::Value connect_transport(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Endpoint endpoint;
  int timeout_ms = 0;
  if (info.Length() < 2 || !info[0].IsObject()) {
    Napi::TypeError::New(env, "endpoint must be an object").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  if (!read_endpoint(info[0].As<Napi::Object>(), &endpoint)) return env.Undefined();
  if (!read_timeout(info[1], &timeout_ms)) return env.Undefined();
  auto* worker = new ConnectWorker(env, std::move(endpoint), timeout_ms);
  worker->Queue();
  return worker->promise();
}

}  // namespace unbd::node
