// Owns: the NBD part of src/gateway/native.ts: AdapterSpec of kind nbd, and what Queues.resume()
// takes, turned into a device, its adapters and its connections. JS thread only.
// Must not: start an adapter, or use a transport before it is the queues'.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "adapter/adapter.h"
#include "nbd/device.h"
#include "queue/queue_types.h"

namespace unbd::node {

// One adapter a queue, and in *device what they share. Empty, with a JS error pending, when spec is
// wrong.
std::vector<std::unique_ptr<Adapter>> make_nbd_adapters(const Napi::Object& spec,
                                                        const QueuesConfig& config,
                                                        std::shared_ptr<NbdDevice>* device);

// One connection a queue, for DeviceQueues::resume(). Empty, with a JS error pending, when spec is
// wrong; transports that were looked at are then closed.
std::vector<std::unique_ptr<BackendConnection>> make_nbd_connections(const Napi::Object& spec,
                                                                     const NbdDevice& device,
                                                                     unsigned queue_count);

}  // namespace unbd::node
