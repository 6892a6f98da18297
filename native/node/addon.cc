// Owns: the addon's entry point: what src/gateway/native.ts sees. JS thread only.
// Must not: hold state of its own; each environment has its classes.
#include <napi.h>

#include "node/cache_binding.h"
#include "node/notify.h"
#include "node/queues_binding.h"
#include "node/receive_window.h"
#include "node/ring_check.h"
#include "node/store_binding.h"
#include "node/transport_binding.h"
#include "node/unflushed_log_binding.h"

namespace unbd::node {
namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  TransportBinding::define(env);
  exports.Set("connectTransport", Napi::Function::New(env, connect_transport, "connectTransport"));
  exports.Set("Queues", QueuesBinding::define(env));
  exports.Set("CacheFile", CacheBinding::define(env));
  exports.Set("Store", StoreBinding::define(env));
  exports.Set("UnflushedLog", UnflushedLogBinding::define(env));
  exports.Set("notifySystemd", Napi::Function::New(env, notify_systemd, "notifySystemd"));
  exports.Set("widenReceiveWindow",
              Napi::Function::New(env, widen_receive_window, "widenReceiveWindow"));
  exports.Set("checkRing", Napi::Function::New(env, check_ring, "checkRing"));
  return exports;
}

}  // namespace
}  // namespace unbd::node

static Napi::Object init_addon(Napi::Env env, Napi::Object exports) {
  return unbd::node::init(env, exports);
}
NODE_API_MODULE(ublk_nbd, init_addon)
