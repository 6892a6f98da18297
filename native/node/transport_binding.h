// Owns: NativeTransport of src/gateway/native.ts: a Transport during its handshake. JS thread; the
// blocking parts run on libuv's pool, one at a time per direction. Must not: touch a transport that
// was handed to a queue.
#pragma once

#include <napi.h>

#include <memory>

#include "transport/transport.h"

namespace unbd::node {

class TransportBinding : public Napi::ObjectWrap<TransportBinding> {
 public:
  static void define(Napi::Env env);
  static Napi::Object make(Napi::Env env, std::unique_ptr<Transport> transport);

  explicit TransportBinding(const Napi::CallbackInfo& info);

  // Gives the transport away to a queue. Null (with a JS error pending) when it is closed or busy.
  static std::unique_ptr<Transport> take(const Napi::Value& value);
  // Lends it to a worker that does all its I/O until give_back(); the object stays alive until
  // then, and a close() shuts the stream down. Null (with a JS error pending) as above.
  static TransportBinding* lend(const Napi::Value& value);
  void give_back();

  Transport* transport() { return transport_.get(); }
  // A worker has ended; a close() that came meanwhile is carried out now.
  void worker_done();

 private:
  static TransportBinding* find_idle(const Napi::Value& value);

  Napi::Value send(const Napi::CallbackInfo& info);
  Napi::Value recv(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  std::unique_ptr<Transport> transport_;
  int workers_ = 0;
  bool closing_ = false;
};

// connectTransport(endpoint, timeoutMs): Promise<NativeTransport>
Napi::Value connect_transport(const Napi::CallbackInfo& info);

}  // namespace unbd::node
