// Owns: the declaration of notifySystemd (see notify.cc). JS thread only.
// Must not: grow into a systemd library.
#pragma once

#include <napi.h>

namespace unbd::node {

// notifySystemd(state): true when the datagram was sent to $NOTIFY_SOCKET (sd_notify(3)).
Napi::Value notify_systemd(const Napi::CallbackInfo& info);

}  // namespace unbd::node
