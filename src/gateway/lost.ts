/**
 * Owns: what follows when a server process ends without being told to.
 * Runs in: the controller and `connect --foreground`.
 * Must not: forget the device: where it cannot be recovered `list` shows it as DEAD, with the
 * reason, until `disconnect`.
 */
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import { type Device, isServed } from './device.ts';
import type { Host } from './host.ts';
import type { Ending, ServerProcess } from './launch.ts';
import { failDevice, recoverDevice } from './recover.ts';
import { isCrashLoop, isRecoverable } from './recovery-policy.ts';

/** `how` is the end of a sentence: `exited with status 1`. */
export function serverEnded(how: string): GatewayError {
  return new GatewayError('UNBD_SERVER_PROCESS', `the server process ${how}`, {
    hint: 'see: ublk-nbd logs',
  });
}

/**
 * What `action` does; rejects when the device's server process ends first: then nobody answers what
 * it waits for.
 */
export function whileServed<T>(device: Device, action: Promise<T>): Promise<T> {
  const ended = device.serverProcess?.ended.then(({ how }) => {
    throw serverEnded(how);
  });
  return ended === undefined ? action : Promise.race([action, ended]);
}

/**
 * Does nothing while the device is being connected, recovered, stopped or dead: those operations
 * find out by themselves.
 */
export async function deviceLost(
  host: Host,
  device: Device,
  serverProcess: ServerProcess,
  { how }: Ending,
): Promise<void> {
  try {
    await device.exclusive(async () => {
      // A recovery that went on meanwhile has given it a successor.
      if (device.serverProcess === serverProcess) {
        await recoverOrBury(host, device, `the server process ${how}`);
      }
    });
  } catch (error) {
    host.log('error', device.id, `cannot be recovered: ${asGatewayError(error).line}`);
  }
}

/** The caller holds the device's `exclusive`; nobody serves the device. */
export async function recoverOrBury(host: Host, device: Device, reason: string): Promise<void> {
  const { state, record } = device;
  if (!isServed(state)) return;
  if (!isRecoverable(record.shape?.flags)) await buryDevice(host, device, reason);
  else if (state !== 'FATAL') await recoverDevice(host, device, reason);
  else if (isCrashLoop(record.crashesAtMs ?? [])) await buryDevice(host, device, reason);
  else await failDevice(host, device, record.reason ?? reason);
}

/** The driver fails the disk's I/O from here on; the record stays. */
export async function buryDevice(host: Host, device: Device, reason: string): Promise<void> {
  const { id, record } = device;
  host.tell('dead', id, reason);
  device.setState('DEAD', reason);
  try {
    // Whoever has the disk open keeps its number busy, so that nothing waits for that here.
    await host.control.delAsync(id);
    if (record.options.name !== undefined) await host.nodes.removeLink(record.options.name, id);
    await host.nodes.remove(record.madeNodes);
  } catch (error) {
    host.log('error', id, `cannot be taken from the driver: ${asGatewayError(error).line}`);
  }
  device.update({ phase: 'dead', madeNodes: [], recovery: 'none' });
}
