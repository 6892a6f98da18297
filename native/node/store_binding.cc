// Owns: the implementation of Store (see store_binding.h).
// Runs on: the JS thread; StoreDoorbell::ring() on the queue's.
// Must not: touch the bytes of a chunk; JS writes them through the arena.
#include "node/store_binding.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "node/args.h"
#include "node/cache_binding.h"

namespace unbd::node {
namespace {

constexpr napi_type_tag kTag = {0x756e62642d73746f, 0x72652d6368756e6b};

// One call of JS for as many fills as there are by then.
class StoreDoorbell final : public Doorbell {
 public:
  StoreDoorbell(Napi::Env env, const Napi::Function& on_fills)
      : call_(Napi::ThreadSafeFunction::New(env, on_fills, "ublk-nbd store", 0, 1)) {
    // A store that nothing asks of keeps no process alive.
    call_.Unref(env);
  }
  ~StoreDoorbell() override { call_.Release(); }

  void ring() override { call_.NonBlockingCall(); }

 private:
  Napi::ThreadSafeFunction call_;
};

bool read_config(const Napi::Object& spec, store::StoreConfig* config) {
  bool ok = true;
  config->size_bytes = read_uint64(spec, "sizeBytes", &ok);
  config->chunk_bytes = read_uint32(spec, "chunkBytes", &ok);
  config->maximum_window_bytes = read_uint32(spec, "maximumWindowBytes", &ok);
  Napi::Value memory = spec.Get("memoryBytes");
  if (!memory.IsNumber()) {
    complain(spec.Env(), "memoryBytes", "a number", &ok);
    return false;
  }
  const double bytes = std::clamp(memory.As<Napi::Number>().DoubleValue(), 0.0, 0x1p50);
  config->memory_bytes = static_cast<uint64_t>(bytes);
  if (ok && !config->is_valid()) complain(spec.Env(), "the store's spec", "of sizes that fit", &ok);
  return ok;
}

// Without the property there is no cache on disk.
bool read_cache(const Napi::Object& spec, const store::StoreConfig& config,
                store::CacheParts* parts) {
  Napi::Value cache = spec.Get("cache");
  if (cache.IsUndefined()) return true;
  bool ok = cache.IsObject();
  if (!ok) complain(spec.Env(), "cache", "an object", &ok);
  if (!ok) return false;
  const uint64_t limit_bytes = read_uint64(cache.As<Napi::Object>(), "limitBytes", &ok);
  std::shared_ptr<store::CacheFile> file =
      ok ? CacheBinding::share(cache.As<Napi::Object>().Get("file")) : nullptr;
  if (file == nullptr) return false;
  if (file->size_bytes() != config.size_bytes || file->chunk_bytes() != config.chunk_bytes) {
    complain(spec.Env(), "cache.file", "of the store's object", &ok);
    return false;
  }
  const int result = store::DiskCache::make_parts(std::move(file), limit_bytes, parts);
  if (result < 0)
    errno_error(spec.Env(), -result, "the cache cannot be used").ThrowAsJavaScriptException();
  return result == 0;
}

// Without the property nothing is prefetched. It needs a cache.
bool read_prefetch(const Napi::Object& spec, bool has_cache, store::StoreConfig* config) {
  Napi::Value prefetch = spec.Get("prefetch");
  if (prefetch.IsUndefined()) return true;
  bool ok = prefetch.IsObject() && has_cache;
  if (!ok) complain(spec.Env(), "prefetch", "an object, beside a cache", &ok);
  if (!ok) return false;
  config->prefetches = true;
  config->prefetch_bytes_per_s = read_uint64(prefetch.As<Napi::Object>(), "bytesPerS", &ok);
  return ok;
}

}  // namespace

Napi::Function StoreBinding::define(Napi::Env env) {
  return DefineClass(
      env, "Store",
      {InstanceAccessor<&StoreBinding::arena>("arena"), InstanceMethod<&StoreBinding::take>("take"),
       InstanceMethod<&StoreBinding::report>("report"),
       InstanceMethod<&StoreBinding::allow_cache_writes>("allowCacheWrites"),
       InstanceMethod<&StoreBinding::stats>("stats")});
}

StoreBinding::StoreBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<StoreBinding>(info) {
  Napi::Env env = info.Env();
  if (info.Length() < 2 || !info[0].IsObject() || !info[1].IsFunction()) {
    Napi::TypeError::New(env, "Store needs a spec and a listener").ThrowAsJavaScriptException();
    return;
  }
  if (!read_config(info[0].As<Napi::Object>(), &shared_.config) ||
      !read_cache(info[0].As<Napi::Object>(), shared_.config, &shared_.parts.cache) ||
      !read_prefetch(info[0].As<Napi::Object>(), shared_.parts.cache.file != nullptr,
                     &shared_.config))
    return;
  int result = Arena::create(shared_.config.memory_bytes, &shared_.parts.arena);
  if (result == 0) {
    shared_.parts.bridge = std::make_shared<FillBridge>(
        std::make_shared<StoreDoorbell>(env, info[1].As<Napi::Function>()));
    result = shared_.parts.bridge->error();
  }
  if (result < 0) {
    errno_error(env, -result, "the store cannot be made").ThrowAsJavaScriptException();
    return;
  }
  shared_.parts.counters = std::make_shared<store::StoreCounters>();
  // V8 may keep the buffer longer than this object lives.
  auto* kept = new std::shared_ptr<Arena>(shared_.parts.arena);
  arena_ = Napi::Persistent(Napi::ArrayBuffer::New(
      env, shared_.parts.arena->data(), shared_.parts.arena->size_bytes(),
      [](Napi::Env, void*, std::shared_ptr<Arena>* arena) { delete arena; }, kept));
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

const SharedStore* StoreBinding::share(const Napi::Value& value) {
  if (value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kTag))
    return &Unwrap(value.As<Napi::Object>())->shared_;
  Napi::TypeError::New(value.Env(), "store must be a Store").ThrowAsJavaScriptException();
  return nullptr;
}

Napi::Value StoreBinding::arena(const Napi::CallbackInfo&) {
  return arena_.Value();
}

Napi::Value StoreBinding::take(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Array fills = Napi::Array::New(env);
  Fill fill;
  auto number = [env](uint64_t value) {
    return Napi::Number::New(env, static_cast<double>(value));
  };
  for (uint32_t count = 0; shared_.parts.bridge->take(&fill); ++count) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("kind", fill.kind == Fill::Kind::kRead ? "read" : "promote");
    object.Set("id", number(fill.id));
    object.Set("urgent", Napi::Boolean::New(env, fill.urgent));
    object.Set("background", Napi::Boolean::New(env, fill.background));
    object.Set("offsetBytes", number(fill.offset_bytes));
    object.Set("lengthBytes", number(fill.length_bytes));
    object.Set("arenaOffsetBytes", number(fill.arena_offset_bytes));
    fills.Set(count, object);
  }
  return fills;
}

void StoreBinding::report(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 3 || !info[0].IsNumber() || !info[1].IsNumber() || !info[2].IsNumber()) {
    Napi::TypeError::New(env, "report needs an id, a number of bytes and an errno")
        .ThrowAsJavaScriptException();
    return;
  }
  shared_.parts.bridge->report({.id = info[0].As<Napi::Number>().Uint32Value(),
                                .landed_bytes = info[1].As<Napi::Number>().Uint32Value(),
                                .error = info[2].As<Napi::Number>().Int32Value()});
}

void StoreBinding::allow_cache_writes(const Napi::CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsBoolean()) {
    Napi::TypeError::New(info.Env(), "allowCacheWrites needs a boolean")
        .ThrowAsJavaScriptException();
    return;
  }
  const auto& may_write = shared_.parts.cache.may_write;
  if (may_write != nullptr)
    may_write->store(info[0].As<Napi::Boolean>().Value(), std::memory_order_relaxed);
}

Napi::Value StoreBinding::stats(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object result = Napi::Object::New(env);
  auto set = [&](const char* name, store::StoreCounters::Name counter) {
    result.Set(name, Napi::BigInt::New(env, shared_.parts.counters->get(counter)));
  };
  set("hits", store::StoreCounters::kHits);
  set("misses", store::StoreCounters::kMisses);
  set("fills", store::StoreCounters::kFills);
  set("filledBytes", store::StoreCounters::kBytesFilled);
  set("cachedBytes", store::StoreCounters::kCachedBytes);
  set("cacheReadBytes", store::StoreCounters::kCacheReadBytes);
  set("cacheWrittenBytes", store::StoreCounters::kCacheWrittenBytes);
  set("cacheCorruptBytes", store::StoreCounters::kCacheCorruptBytes);
  set("cacheSkippedBytes", store::StoreCounters::kCacheSkippedBytes);
  return result;
}

}  // namespace unbd::node
