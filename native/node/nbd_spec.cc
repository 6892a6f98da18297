// Owns: the implementation of nbd_spec.h. JS thread only.
// Must not: start an adapter, or use a transport before it is the queues'.
#include "node/nbd_spec.h"

#include <cmath>
#include <string>
#include <utility>

#include "nbd/adapter.h"
#include "nbd/connection.h"
#include "nbd/unflushed_log.h"
#include "node/args.h"
#include "node/transport_binding.h"
#include "node/unflushed_log_binding.h"

namespace unbd::node {
namespace {

constexpr double kMillisecondsMax = 9007199254740991.0;  // Number.MAX_SAFE_INTEGER

// -1 means for ever.
int64_t read_delay_ms(const Napi::Object& from, const char* name, bool* ok) {
  const Napi::Value value = from.Get(name);
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  if (number == -1) return NbdDeviceConfig::kForever;
  if (number >= 0 && number <= kMillisecondsMax) return static_cast<int64_t>(std::ceil(number));
  complain(from.Env(), name, "a number of milliseconds, or -1", ok);
  return 0;
}

Unflushed read_unflushed(const Napi::Object& from, bool* ok) {
  const std::string text = read_string(from, "unflushed", ok);
  if (text == "replay") return Unflushed::kReplay;
  if (text == "fail-flush") return Unflushed::kFailFlush;
  if (*ok && text != "trust") complain(from.Env(), "unflushed", "replay, fail-flush or trust", ok);
  return Unflushed::kTrust;
}

// The log of a device whose unflushed writes are replayed; it has room for any of them.
std::shared_ptr<UnflushedLog> read_log(const Napi::Object& spec, const QueuesConfig& config,
                                       bool* ok) {
  std::shared_ptr<UnflushedLog> log = UnflushedLogBinding::share(spec.Get("log"));
  if (log == nullptr) {
    *ok = false;
  } else if (log->queues() != config.queue_count || log->write_bytes_max() < config.max_io_bytes) {
    complain(spec.Env(), "log", "made for these queues and requests", ok);
  }
  return log;
}

NbdDeviceConfig read_device(const Napi::Object& spec, const QueuesConfig& config, bool* ok) {
  NbdDeviceConfig device;
  device.depth = config.depth;
  device.maximum_request_bytes = config.max_io_bytes;
  device.read_only = read_bool(spec, "readOnly", ok);
  device.reconnect_delay_ms = read_delay_ms(spec, "reconnectDelayMs", ok);
  device.first_hold_ms = read_delay_ms(spec, "holdDeadlineMs", ok);
  device.request_timeout_ms = read_uint32(spec, "requestTimeoutMs", ok);
  device.unflushed = read_unflushed(spec, ok);
  device.durable_writes = read_bool(spec, "durableWrites", ok);
  device.resend_writes = read_bool(spec, "resendWrites", ok);
  device.in_doubt = read_bool(spec, "inDoubt", ok);
  if (*ok && device.unflushed == Unflushed::kReplay) device.log = read_log(spec, config, ok);
  return device;
}

NbdAgreement read_agreement(const Napi::Object& spec, bool* ok) {
  NbdAgreement agreement;
  agreement.structured_replies = read_bool(spec, "structuredReplies", ok);
  agreement.can_flush = read_bool(spec, "canFlush", ok);
  agreement.can_fua = read_bool(spec, "canFua", ok);
  agreement.can_trim = read_bool(spec, "canTrim", ok);
  agreement.can_write_zeroes = read_bool(spec, "canWriteZeroes", ok);
  agreement.maximum_block_bytes = read_uint32(spec, "maximumBlockBytes", ok);
  agreement.minimum_block_bytes = read_uint32(spec, "minimumBlockBytes", ok);
  const uint32_t epoch = read_uint32(spec, "epoch", ok);
  if (*ok && epoch > UINT16_MAX) complain(spec.Env(), "epoch", "at most 65535", ok);
  agreement.epoch = static_cast<uint16_t>(epoch);
  return agreement;
}

using Connections = std::vector<std::unique_ptr<nbd::Connection>>;

Connections read_connections(const Napi::Object& spec, const NbdDeviceConfig& device,
                             unsigned queue_count, bool* ok) {
  Connections connections;
  const NbdAgreement agreement = read_agreement(spec, ok);
  const Napi::Value transports = spec.Get("transports");
  if (!transports.IsArray() || transports.As<Napi::Array>().Length() != queue_count)
    complain(spec.Env(), "transports", "one for each queue", ok);
  for (uint32_t queue = 0; *ok && queue < queue_count; ++queue) {
    std::unique_ptr<Transport> transport =
        TransportBinding::take(transports.As<Napi::Array>().Get(queue));
    if (transport == nullptr) {
      *ok = false;
    } else {
      connections.push_back(
          std::make_unique<nbd::Connection>(device, agreement, std::move(transport)));
    }
  }
  return connections;
}

bool is_empty_array(const Napi::Value& value) {
  return value.IsArray() && value.As<Napi::Array>().Length() == 0;
}

}  // namespace

std::vector<std::unique_ptr<Adapter>> make_nbd_adapters(const Napi::Object& spec,
                                                        const QueuesConfig& config,
                                                        std::shared_ptr<NbdDevice>* device) {
  bool ok = true;
  NbdDeviceConfig device_config = read_device(spec, config, &ok);
  if (!ok) return {};
  Connections connections;
  if (is_empty_array(spec.Get("transports"))) {
    connections.resize(config.queue_count);
  } else {
    connections = read_connections(spec, device_config, config.queue_count, &ok);
    if (!ok) return {};
  }
  *device = std::make_shared<NbdDevice>(std::move(device_config));
  std::vector<std::unique_ptr<Adapter>> adapters;
  for (unsigned queue = 0; queue < config.queue_count; ++queue)
    adapters.push_back(std::make_unique<NbdAdapter>(*device, queue, std::move(connections[queue])));
  return adapters;
}

std::vector<std::unique_ptr<BackendConnection>> make_nbd_connections(const Napi::Object& spec,
                                                                     const NbdDevice& device,
                                                                     unsigned queue_count) {
  bool ok = true;
  Connections connections = read_connections(spec, device.config(), queue_count, &ok);
  if (!ok) return {};
  std::vector<std::unique_ptr<BackendConnection>> result;
  for (std::unique_ptr<nbd::Connection>& connection : connections)
    result.push_back(std::move(connection));
  return result;
}

}  // namespace unbd::node
