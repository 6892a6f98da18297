/**
 * Owns: taking over devices whose owner is gone: what serves goes on, what was half done is undone.
 * Runs in: the controller.
 * Must not: touch a device whose owner lives, or delete a device of the driver that is not ours.
 */

import { asGatewayError } from '../protocols/errors.ts';
import { Device } from './device.ts';
import { cleanUp } from './disconnect.ts';
import type { Host } from './host.ts';
import { adoptServerProcess } from './launch.ts';
import { buryDevice, deviceLost } from './lost.ts';
import type { DeviceState } from './messages.ts';
import { isAlive } from './process.ts';
import type { DeviceRecord } from './registry.ts';

/** Every record without a living owner becomes a device of ours, or is cleaned away. */
export async function adoptOrphans(host: Host): Promise<void> {
  const { records, corrupt } = host.registry.readAll();
  for (const { id, path } of corrupt) {
    host.log('error', id, `its corrupt record was put aside as ${path}`);
    // What we have in memory is the truth about a device of ours.
    host.devices.get(id)?.update({});
  }
  for (const record of records) {
    if (host.devices.has(record.id) || isAlive(record.owner)) continue;
    await adoptRecord(host, record);
  }
}

/** Undefined when nothing of the device is left. */
export async function adoptRecord(host: Host, record: DeviceRecord): Promise<Device | undefined> {
  const device = new Device(host, record, stateOf(record));
  host.devices.set(record.id, device);
  // One that has ended is attached too: its last words are still to be logged.
  if (record.serverProcess !== undefined) {
    const serverProcess = adoptServerProcess(record.serverProcess, record.token);
    device.attachServerProcess(serverProcess, (how) => void deviceLost(host, device, how));
  }
  try {
    await device.exclusive(() => settle(host, device));
  } catch (error) {
    // Without the driver's answer the record is all that is known; `disconnect` tries again.
    host.log('error', record.id, `cannot be adopted: ${asGatewayError(error).line}`);
  }
  return host.devices.get(record.id) === device ? device : undefined;
}

function stateOf({ phase }: DeviceRecord): DeviceState {
  if (phase === 'live') return 'CONNECTED';
  return phase === 'dead' ? 'DEAD' : 'STOPPING';
}

async function settle(host: Host, device: Device): Promise<void> {
  const { id, record } = device;
  device.update({ owner: host.owner });
  if (device.state === 'DEAD') return;
  if (device.state === 'CONNECTED') {
    const info = await host.control.info(id);
    const served = record.serverProcess !== undefined && isAlive(record.serverProcess);
    if (served && info?.state === 'LIVE') {
      host.log('info', id, `adopted from process ${record.owner.pid}`);
      return;
    }
    const reason = served ? 'the device was deleted' : 'the server process ended';
    await buryDevice(host, device, `${reason} while no controller was there`);
    return;
  }
  host.log('info', id, `cleaned away: its owner ended in phase ${record.phase}`);
  await cleanUpIfOurs(host, device);
}

/**
 * A device in phase `adding` may have the id of a stranger's device: ours was perhaps never added.
 * Ours has no server process that lives (it ends with the connection to its owner), and was never
 * started under another pid.
 */
async function cleanUpIfOurs(host: Host, device: Device): Promise<void> {
  const { id, record } = device;
  const info = record.shape === undefined ? await host.control.info(id) : undefined;
  const strangers = info !== undefined && info.state !== 'DEAD';
  if (strangers) {
    host.devices.delete(id);
    host.registry.remove(id);
    return;
  }
  await cleanUp(host, device);
}
