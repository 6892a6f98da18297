/**
 * Owns: taking over devices whose owner is gone: what serves goes on, what is not served any more
 * is recovered, what was half done is undone.
 * Runs in: the controller.
 * Must not: touch a device whose owner lives, or delete a device of the driver that is not ours.
 */

import { asGatewayError } from '../protocols/errors.ts';
import { isStarted } from './control.ts';
import { Device } from './device.ts';
import { cleanUp } from './disconnect.ts';
import { endServerProcess } from './end-process.ts';
import type { Host } from './host.ts';
import { adoptServerProcess, type ServerProcess } from './launch.ts';
import { buryDevice, deviceLost, recoverOrBury } from './lost.ts';
import type { DeviceState } from './messages.ts';
import { isAlive } from './process.ts';
import type { DeviceRecord } from './registry.ts';

/** A successor that is there has fetched, or does so at once. */
const TAKE_OVER_TIMEOUT_MS = 5_000;

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
    device.attachServerProcess(serverProcess, (ending) => {
      void deviceLost(host, device, serverProcess, ending);
    });
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
  if (phase === 'fatal') return 'FATAL';
  return phase === 'dead' ? 'DEAD' : 'STOPPING';
}

async function settle(host: Host, device: Device): Promise<void> {
  const { id, record } = device;
  const { owner } = record;
  device.update({ owner: host.owner });
  if (device.state === 'DEAD') return;
  const info = await host.control.info(id);
  if (device.state === 'STOPPING' && (!isStarted(info) || record.phase === 'adding')) {
    host.log('info', id, `cleaned away: its owner ended in phase ${record.phase}`);
    await cleanUpIfOurs(host, device);
    return;
  }
  // Its owner ended while it was drained: nothing of it was failed yet.
  if (device.state === 'STOPPING') {
    device.setState('CONNECTED');
    device.update({ phase: 'live' });
  }
  if (!isStarted(info)) {
    await buryDevice(host, device, 'the device was deleted while no controller was there');
  } else if (await isServed(host, device, info.state)) {
    host.tell('adopted', id, `from process ${owner.pid}`);
  } else {
    // Not awaited: a backend that is away must not hold up the device's list.
    const reason = 'the server process ended while no controller was there';
    void recoverLater(host, device, device.serverProcess, reason);
  }
}

/**
 * Ends what is between two states: a server process that took over and was not yet told to the
 * driver.
 */
async function isServed(host: Host, device: Device, driverState: string): Promise<boolean> {
  const { id, record, serverProcess } = device;
  if (serverProcess === undefined || (await serverProcess.waitForExit(0))) return false;
  const { recovery = 'none' } = record;
  if (driverState === 'LIVE' && recovery === 'none') return true;
  if (recovery === 'fetching') {
    try {
      const limit = AbortSignal.timeout(TAKE_OVER_TIMEOUT_MS);
      await host.control.recoverEnd(id, serverProcess.identity.pid, limit);
      device.update({ recovery: 'none' });
      return true;
    } catch (error) {
      host.log('warning', id, `its recovery begins anew: ${asGatewayError(error).message}`);
    }
  }
  await endServerProcess(host, device);
  return false;
}

async function recoverLater(
  host: Host,
  device: Device,
  ended: ServerProcess | undefined,
  reason: string,
): Promise<void> {
  try {
    await device.exclusive(async () => {
      // Its end may have been noticed meanwhile, and a successor serves: that one must stay.
      if (device.serverProcess === ended) await recoverOrBury(host, device, reason);
    });
  } catch (error) {
    host.log('error', device.id, `cannot be recovered: ${asGatewayError(error).line}`);
  }
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
