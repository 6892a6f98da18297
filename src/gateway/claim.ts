/**
 * Owns: claiming a device number and a name before anything exists in the driver.
 * Runs in: the controller and `connect --foreground`; they may claim at the same time.
 * Must not: take a number or a name that a device of ours has, dead ones included.
 */
import { randomUUID } from 'node:crypto';
import { GatewayError } from '../protocols/errors.ts';
import { Device } from './device.ts';
import { lowestFreeId } from './device-id.ts';
import { blockPath, isStableName } from './device-name.ts';
import type { Host } from './host.ts';
import type { ConnectOptions } from './messages.ts';
import { type DeviceRecord, RECORD_VERSION } from './registry.ts';

/** Throws UNBD_DEVICE_EXISTS when the number or the name that was asked for is taken. */
export function claimDevice(host: Host, options: ConnectOptions): Device {
  if (options.name !== undefined) checkName(host, options.name);
  const device = new Device(host, claimFrom(host, options, 0), 'CONNECTING');
  host.devices.set(device.id, device);
  return device;
}

/** After ADD_DEV's EEXIST: somebody else's device came first. */
export function moveToNextId(host: Host, device: Device): void {
  const { options } = device.record;
  const { id } = device;
  if (options.id !== undefined) throw taken(options.id);
  const { owner: _, ...intent } = device.record;
  const moved = claimFrom(host, options, id + 1, intent);
  releaseDevice(host, device);
  device.moveTo(moved);
  host.devices.set(device.id, device);
}

export function releaseDevice(host: Host, device: Device): void {
  host.devices.delete(device.id);
  host.registry.remove(device.id);
}

/** Writes the record of intent under the asked-for id, or the lowest free one from `from` up. */
function claimFrom(
  host: Host,
  options: ConnectOptions,
  from: number,
  kept: Partial<DeviceRecord> = {},
): DeviceRecord {
  const refused = new Set<number>();
  for (;;) {
    const drivers = host.driverIds();
    const asked = options.id;
    if (asked !== undefined && (drivers.has(asked) || refused.has(asked))) throw taken(asked);
    const id = asked ?? lowestFreeId(from, drivers, refused);
    const record: DeviceRecord = {
      token: randomUUID(),
      ...kept,
      version: RECORD_VERSION,
      id,
      phase: 'adding',
      options,
      owner: host.owner,
      connectedAtMs: host.nowMs(),
      madeNodes: [],
    };
    if (host.registry.claim(record)) return record;
    refused.add(id);
  }
}

function checkName(host: Host, name: string): void {
  if (!isStableName(name)) {
    throw new GatewayError('UNBD_USAGE', `'${name}' cannot be a name`, {
      hint: 'take 1 to 64 of A-Z a-z 0-9 . _ - that do not look like a device number',
    });
  }
  const holder = host.registry.readAll().records.find((record) => record.options.name === name);
  if (holder === undefined) return;
  throw new GatewayError('UNBD_DEVICE_EXISTS', `the name ${name} belongs to ublkb${holder.id}`, {
    hint: `take another --name, or run: ublk-nbd disconnect ${holder.id}`,
  });
}

function taken(id: number): GatewayError {
  return new GatewayError('UNBD_DEVICE_EXISTS', `${blockPath(id)} is taken`, {
    hint: 'leave out --id, or see: ublk-nbd list',
  });
}
