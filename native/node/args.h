// Owns: typed reading of JS arguments and errors with an errno's name as `code`. JS thread only.
// Must not: keep a JS value beyond the call.
#pragma once

#include <napi.h>

#include <cstdint>
#include <cstring>
#include <string>

namespace unbd::node {

// Reads one property each; on a wrong type they throw a JS TypeError that names it and set *ok to
// false.
inline void complain(Napi::Env env, const char* name, const char* wanted, bool* ok) {
  if (!env.IsExceptionPending())
    Napi::TypeError::New(env, std::string(name) + " must be " + wanted)
        .ThrowAsJavaScriptException();
  *ok = false;
}

inline uint32_t read_uint32(const Napi::Object& from, const char* name, bool* ok) {
  Napi::Value value = from.Get(name);
  if (value.IsNumber()) {
    double number = value.As<Napi::Number>().DoubleValue();
    if (number >= 0 && number <= 4294967295.0) return static_cast<uint32_t>(number);
  }
  complain(from.Env(), name, "an integer from 0 to 2^32-1", ok);
  return 0;
}

inline uint64_t read_uint64(const Napi::Object& from, const char* name, bool* ok) {
  Napi::Value value = from.Get(name);
  if (value.IsBigInt()) {
    bool lossless = false;
    uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
    if (lossless) return number;
  }
  complain(from.Env(), name, "a bigint from 0 to 2^64-1", ok);
  return 0;
}

inline bool read_bool(const Napi::Object& from, const char* name, bool* ok) {
  Napi::Value value = from.Get(name);
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
  complain(from.Env(), name, "a boolean", ok);
  return false;
}

inline std::string read_string(const Napi::Object& from, const char* name, bool* ok) {
  Napi::Value value = from.Get(name);
  if (value.IsString()) return value.As<Napi::String>().Utf8Value();
  complain(from.Env(), name, "a string", ok);
  return {};
}

// An Error whose `code` is the errno's name; error is positive.
inline Napi::Error errno_error(Napi::Env env, int error, const std::string& text) {
  const char* name = ::strerrorname_np(error);
  std::string message = text.empty() ? std::string(::strerrordesc_np(error)) : text;
  Napi::Error result = Napi::Error::New(env, message);
  result.Set("code", Napi::String::New(env, name != nullptr ? name : "EUNKNOWN"));
  return result;
}

}  // namespace unbd::node
