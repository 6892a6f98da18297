// Owns: the implementation of CacheBinding (see cache_binding.h).
// Runs on: the JS thread.
// Must not: crash on what JS gives it.
#include "node/cache_binding.h"

#include <cerrno>

#include "node/args.h"

namespace unbd::node {
namespace {

constexpr napi_type_tag kTag = {0x756e62642d636163, 0x68652d66696c6521};

}  // namespace

Napi::Function CacheBinding::define(Napi::Env env) {
  return DefineClass(
      env, "CacheFile",
      {InstanceAccessor<&CacheBinding::cached_bytes>("cachedBytes"),
       InstanceAccessor<&CacheBinding::chunks>("chunks"),
       InstanceMethod<&CacheBinding::save>("save"), InstanceMethod<&CacheBinding::commit>("commit"),
       InstanceMethod<&CacheBinding::verify>("verify"),
       InstanceMethod<&CacheBinding::close>("close")});
}

CacheBinding::CacheBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CacheBinding>(info) {
  Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsObject()) {
    Napi::TypeError::New(env, "CacheFile needs a spec").ThrowAsJavaScriptException();
    return;
  }
  const Napi::Object from = info[0].As<Napi::Object>();
  bool ok = true;
  const store::CacheFileSpec spec{.directory = read_string(from, "directory", &ok),
                                  .size_bytes = read_uint64(from, "sizeBytes", &ok),
                                  .chunk_bytes = read_uint32(from, "chunkBytes", &ok),
                                  .key = read_string(from, "key", &ok)};
  if (ok && !spec.is_valid()) complain(env, "the cache file's spec", "of sizes that fit", &ok);
  if (!ok) return;
  const int result = store::CacheFile::open(spec, &file_);
  if (result < 0) {
    errno_error(env, -result, "").ThrowAsJavaScriptException();
    return;
  }
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

std::shared_ptr<store::CacheFile> CacheBinding::share(const Napi::Value& value) {
  if (value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kTag)) {
    const CacheBinding* const cache = Unwrap(value.As<Napi::Object>());
    if (cache->is_open(value.Env())) return cache->file_;
    return nullptr;
  }
  Napi::TypeError::New(value.Env(), "cache.file must be a CacheFile").ThrowAsJavaScriptException();
  return nullptr;
}

bool CacheBinding::is_open(Napi::Env env) const {
  if (file_ == nullptr)
    Napi::Error::New(env, "the CacheFile is closed").ThrowAsJavaScriptException();
  return file_ != nullptr;
}

Napi::Value CacheBinding::cached_bytes(const Napi::CallbackInfo& info) {
  if (!is_open(info.Env())) return info.Env().Undefined();
  return Napi::BigInt::New(info.Env(), file_->cached_bytes());
}

Napi::Value CacheBinding::chunks(const Napi::CallbackInfo& info) {
  if (!is_open(info.Env())) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), file_->chunks());
}

void CacheBinding::save(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!is_open(env)) return;
  const bool is_pair = info.Length() >= 2 && info[0].IsNumber() && info[1].IsTypedArray() &&
                       info[1].As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array;
  const uint32_t chunk = is_pair ? info[0].As<Napi::Number>().Uint32Value() : UINT32_MAX;
  if (!is_pair || chunk >= file_->chunks() ||
      info[1].As<Napi::Uint8Array>().ByteLength() != file_->length_of(chunk)) {
    Napi::TypeError::New(env, "save needs a chunk and all its bytes").ThrowAsJavaScriptException();
    return;
  }
  const auto bytes = info[1].As<Napi::Uint8Array>();
  const int result =
      file_->save(chunk, reinterpret_cast<const std::byte*>(bytes.Data()), bytes.ByteLength());
  if (result < 0) errno_error(env, -result, "").ThrowAsJavaScriptException();
}

void CacheBinding::commit(const Napi::CallbackInfo& info) {
  if (!is_open(info.Env())) return;
  const int result = file_->commit();
  if (result < 0) errno_error(info.Env(), -result, "").ThrowAsJavaScriptException();
}

Napi::Value CacheBinding::verify(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!is_open(env)) return env.Undefined();
  if (info.Length() < 2 || !info[0].IsNumber() || !info[1].IsNumber()) {
    Napi::TypeError::New(env, "verify needs a chunk and a count").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const uint32_t first = info[0].As<Napi::Number>().Uint32Value();
  const uint32_t count = info[1].As<Napi::Number>().Uint32Value();
  uint64_t checked_bytes = 0;
  uint64_t dropped_bytes = 0;
  for (uint64_t chunk = first; chunk < uint64_t{first} + count && chunk < file_->chunks();
       ++chunk) {
    const int result = file_->verify(static_cast<uint32_t>(chunk), &checked_bytes, &dropped_bytes);
    if (result < 0) {
      errno_error(env, -result, "").ThrowAsJavaScriptException();
      return env.Undefined();
    }
  }
  Napi::Object verified = Napi::Object::New(env);
  verified.Set("checkedBytes", Napi::BigInt::New(env, checked_bytes));
  verified.Set("droppedBytes", Napi::BigInt::New(env, dropped_bytes));
  return verified;
}

void CacheBinding::close(const Napi::CallbackInfo&) {
  file_.reset();
}

}  // namespace unbd::node
