// Owns: the proof that this process can use io_uring as its queues will. JS thread only.
// Must not: block; the one operation completes at once.
#include "node/ring_check.h"

#include <cerrno>

#include "node/args.h"
#include "ring/ring.h"

namespace unbd::node {
namespace {

int use_ring() {
  Ring ring;
  int result = ring.init({.entries = 8, .cq_entries = 16});
  if (result < 0) return result;
  io_uring_prep_nop(ring.get_sqe());
  constexpr int64_t kTimeoutMs = 1000;
  result = ring.submit_and_wait(kTimeoutMs);
  if (result < 0) return result;
  int completed = -ETIME;
  ring.reap([&completed](uint64_t, int32_t res, uint32_t) { completed = res; });
  return completed;
}

}  // namespace

Napi::Value check_ring(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int result = use_ring();
  if (result < 0) errno_error(env, -result, "io_uring").ThrowAsJavaScriptException();
  return env.Undefined();
}

}  // namespace unbd::node
