// Owns: widenReceiveWindow for the connections that node makes itself. JS thread only.
// Must not: keep the descriptor, which belongs to node.
#include "node/receive_window.h"

#include "transport/receive_window.h"

namespace unbd::node {

Napi::Value widen_receive_window(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 2 || !info[0].IsNumber() || !info[1].IsNumber()) {
    Napi::TypeError::New(env, "widenReceiveWindow needs a descriptor and a number of bytes")
        .ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const int result = unbd::widen_receive_window(info[0].As<Napi::Number>().Int32Value(),
                                                info[1].As<Napi::Number>().Int32Value());
  return Napi::Boolean::New(env, result == 0);
}

}  // namespace unbd::node
