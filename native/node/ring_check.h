// Owns: the declaration of checkRing (see ring_check.cc). JS thread only.
// Must not: keep the ring.
#pragma once

#include <napi.h>

namespace unbd::node {

// checkRing(): makes a ring as a queue does and sends one SQE through it. Throws an Error whose
// `code` is the errno's name.
Napi::Value check_ring(const Napi::CallbackInfo& info);

}  // namespace unbd::node
