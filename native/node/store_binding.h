// Owns: Store of src/gateway/native-store.ts: a device's chunks and the bridge over which its queue
// asks for what is absent, seen from JS. JS thread only; the doorbell is rung on the queue's.
// Must not: decide what is fetched, or let JS report what no fill can have brought.
#pragma once

#include <napi.h>

#include "store/store_adapter.h"

namespace unbd::node {

// What the queue's adapter and JS both hold.
struct SharedStore {
  store::StoreConfig config;
  store::StoreParts parts;
};

class StoreBinding : public Napi::ObjectWrap<StoreBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit StoreBinding(const Napi::CallbackInfo& info);

  // The store that value stands for. Null, with a JS error pending, when it is none.
  static const SharedStore* share(const Napi::Value& value);

 private:
  Napi::Value arena(const Napi::CallbackInfo& info);
  Napi::Value take(const Napi::CallbackInfo& info);
  void report(const Napi::CallbackInfo& info);
  void allow_cache_writes(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);

  SharedStore shared_;
  Napi::Reference<Napi::ArrayBuffer> arena_;
};

}  // namespace unbd::node
