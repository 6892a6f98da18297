/**
 * Owns: the JSON form of a device: the keys that scripts rely on.
 * Runs in: the CLI.
 * Must not: pass on a key that ublk-nbd(8) does not document.
 */
import type { DeviceView } from '../src/gateway/messages.ts';

export function deviceJson(device: DeviceView): Record<string, unknown> {
  return {
    id: device.id,
    path: device.path,
    name: device.name ?? null,
    target: device.target,
    state: device.state,
    reason: device.reason ?? null,
    sizeBytes: device.sizeBytes,
    readOnly: device.readOnly,
    queues: device.queues,
    depth: device.depth,
    logicalBlockBytes: device.logicalBlockBytes,
    serverPid: device.serverPid,
    serverVersion: device.serverVersion ?? null,
    connectedAtMs: device.connectedAtMs,
    ...(device.details === undefined ? {} : { details: device.details }),
  };
}
