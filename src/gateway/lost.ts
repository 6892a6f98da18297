/**
 * Owns: what follows when a server process ends without being told to.
 * Runs in: the controller and `connect --foreground`.
 * Must not: forget the device: `list` shows it as DEAD, with the reason, until `disconnect`.
 */
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import type { Device } from './device.ts';
import type { Host } from './host.ts';

/** `how` is the end of a sentence: `exited with status 1`. */
export function serverEnded(how: string): GatewayError {
  return new GatewayError('UNBD_SERVER_PROCESS', `the server process ${how}`, {
    hint: 'see: ublk-nbd logs',
  });
}

/**
 * Does nothing while the device is being connected, stopped or dead: those operations find out by
 * themselves.
 */
export function deviceLost(host: Host, device: Device, how: string): Promise<void> {
  return device.exclusive(async () => {
    if (device.state !== 'CONNECTED' && device.state !== 'FAILING') return;
    await buryDevice(host, device, `the server process ${how}`);
  });
}

/** The driver fails the disk's I/O from here on; the record stays. */
export async function buryDevice(host: Host, device: Device, reason: string): Promise<void> {
  const { id, record } = device;
  host.log('error', id, `DEAD: ${reason}`);
  device.setState('DEAD', reason);
  try {
    // Whoever has the disk open keeps its number busy, so that nothing waits for that here.
    await host.control.delAsync(id);
    if (record.options.name !== undefined) await host.nodes.removeLink(record.options.name, id);
    await host.nodes.remove(record.madeNodes);
  } catch (error) {
    host.log('error', id, `cannot be taken from the driver: ${asGatewayError(error).line}`);
  }
  device.update({ phase: 'dead', madeNodes: [] });
}
