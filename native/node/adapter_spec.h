// Owns: AdapterSpec of src/gateway/native.ts turned into one adapter a queue. JS thread only.
// Must not: start an adapter; that is its queue's.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "adapter/adapter.h"
#include "nbd/device.h"
#include "queue/queue_types.h"

namespace unbd::node {

// Empty, with a JS error pending, when spec is wrong or its file cannot be opened. *nbd is set
// where the adapters are of kind nbd.
std::vector<std::unique_ptr<Adapter>> make_adapters(const Napi::Object& spec,
                                                    const QueuesConfig& config,
                                                    std::shared_ptr<NbdDevice>* nbd);

}  // namespace unbd::node
