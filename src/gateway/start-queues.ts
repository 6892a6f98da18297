/**
 * Owns: the request that makes a server process serve a device, from what the registry says of the
 * device.
 * Runs in: the controller and `connect --foreground`.
 * Must not: ask for anything that the driver did not grant to this device.
 */
import assert from 'node:assert/strict';
import type { Device } from './device.ts';
import { charPath } from './device-name.ts';
import type { Peer } from './rpc.ts';
import type { StartArgument } from './server-messages.ts';

const TIMEOUT_MS = 30_000;

export type StartHow = Pick<StartArgument, 'suppressPartitionScan' | 'recovery' | 'failing'>;

/** Resolves when every tag has been given to FETCH. */
export async function startQueues(device: Device, peer: Peer, how: StartHow): Promise<void> {
  const { id, options, shape } = device.record;
  assert(shape !== undefined, 'the device was added');
  const argument: StartArgument = {
    devId: id,
    charDevicePath: charPath(id),
    queueCount: shape.queues,
    depth: shape.depth,
    maxIoBytes: shape.maxIoBytes,
    sizeBytes: shape.sizeBytes,
    readOnly: shape.readOnly,
    dataPath: options.dataPath,
    ...how,
    // As it will be when this has succeeded; before that the registry decides.
    record: { ...device.record, phase: how.failing ? 'fatal' : 'live', recovery: 'none' },
  };
  await peer.request('start', argument, { timeoutMs: TIMEOUT_MS });
}
