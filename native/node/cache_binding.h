// Owns: CacheFile of src/gateway/native-cache.ts: an entry of the cache on disk, seen from JS. JS
// thread only, which waits for the disk in the constructor, and in save(), commit() and verify().
// Must not: be verified while a store has it; its queue's thread uses it then.
#pragma once

#include <napi.h>

#include <memory>

#include "store/cache_file.h"

namespace unbd::node {

class CacheBinding : public Napi::ObjectWrap<CacheBinding> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit CacheBinding(const Napi::CallbackInfo& info);

  // The open file that value stands for. Null, with a JS error pending, when it is none.
  static std::shared_ptr<store::CacheFile> share(const Napi::Value& value);

 private:
  Napi::Value cached_bytes(const Napi::CallbackInfo& info);
  Napi::Value chunks(const Napi::CallbackInfo& info);
  void save(const Napi::CallbackInfo& info);
  void commit(const Napi::CallbackInfo& info);
  Napi::Value verify(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);
  bool is_open(Napi::Env env) const;

  std::shared_ptr<store::CacheFile> file_;
};

}  // namespace unbd::node
