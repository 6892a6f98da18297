// Owns: the implementation of make_adapters (see adapter_spec.h). JS thread only.
// Must not: start an adapter, or do request I/O.
#include "node/adapter_spec.h"

#include <cerrno>
#include <string>
#include <utility>

#include "local/error_adapter.h"
#include "local/file_adapter.h"
#include "local/memory_adapter.h"
#include "local/null_adapter.h"
#include "node/args.h"
#include "node/nbd_spec.h"
#include "node/store_binding.h"
#include "store/store_adapter.h"

namespace unbd::node {
namespace {

using Adapters = std::vector<std::unique_ptr<Adapter>>;

// An adapter that needs nothing, for each queue.
template <typename Plain>
Adapters make_each(const QueuesConfig& config) {
  Adapters adapters;
  for (unsigned queue = 0; queue < config.queue_count; ++queue)
    adapters.push_back(std::make_unique<Plain>());
  return adapters;
}

Adapters make_memory(Napi::Env env, const QueuesConfig& config) {
  Adapters adapters;
  std::shared_ptr<MemoryRegion> region;
  int result = MemoryRegion::create(config.size_bytes, &region);
  if (result < 0) {
    errno_error(env, -result, "no memory for the device's content").ThrowAsJavaScriptException();
    return adapters;
  }
  for (unsigned queue = 0; queue < config.queue_count; ++queue)
    adapters.push_back(std::make_unique<MemoryAdapter>(region));
  return adapters;
}

Adapters make_file(const Napi::Object& spec, const QueuesConfig& config) {
  Adapters adapters;
  bool ok = true;
  std::string path = read_string(spec, "path", &ok);
  bool read_only = read_bool(spec, "readOnly", &ok);
  bool direct = read_bool(spec, "direct", &ok);
  if (!ok) return adapters;
  auto backend = std::make_shared<FileBackend>();
  int result = open_file_backend(path, read_only, direct, backend.get());
  if (result == 0 && backend->size_bytes < config.size_bytes) result = -ENOSPC;
  if (result < 0) {
    errno_error(spec.Env(), -result, "").ThrowAsJavaScriptException();
    return adapters;
  }
  for (unsigned queue = 0; queue < config.queue_count; ++queue)
    adapters.push_back(std::make_unique<FileAdapter>(backend, config.depth));
  return adapters;
}

Adapters make_store(const Napi::Object& spec, const QueuesConfig& config) {
  Adapters adapters;
  bool ok = true;
  const SharedStore* shared = StoreBinding::share(spec.Get("store"));
  if (shared == nullptr) return adapters;
  if (config.queue_count != 1) complain(spec.Env(), "queueCount", "1 for a store", &ok);
  if (config.size_bytes > shared->config.size_bytes)
    complain(spec.Env(), "sizeBytes", "no more than the store's", &ok);
  if (ok)
    adapters.push_back(
        std::make_unique<store::StoreAdapter>(shared->config, shared->parts, config.depth));
  return adapters;
}

}  // namespace

Adapters make_adapters(const Napi::Object& spec, const QueuesConfig& config,
                       std::shared_ptr<NbdDevice>* nbd) {
  bool ok = true;
  std::string kind = read_string(spec, "kind", &ok);
  if (!ok) return {};
  if (kind == "null") return make_each<NullAdapter>(config);
  if (kind == "error") return make_each<ErrorAdapter>(config);
  if (kind == "memory") return make_memory(spec.Env(), config);
  if (kind == "file") return make_file(spec, config);
  if (kind == "nbd") return make_nbd_adapters(spec, config, nbd);
  if (kind == "store") return make_store(spec, config);
  complain(spec.Env(), "kind", "null, error, memory, file, nbd or store", &ok);
  return {};
}

}  // namespace unbd::node
