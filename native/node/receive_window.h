// Owns: the declaration of widenReceiveWindow (see receive_window.cc). JS thread only.
// Must not: keep the descriptor, which belongs to node.
#pragma once

#include <napi.h>

namespace unbd::node {

// widenReceiveWindow(fd, bytes): false where the socket does not take it.
Napi::Value widen_receive_window(const Napi::CallbackInfo& info);

}  // namespace unbd::node
