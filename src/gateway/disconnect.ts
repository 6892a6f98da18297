/**
 * Owns: `disconnect`: the way from a device back to nothing, and the parts of it that an undo
 * needs.
 * Runs in: the controller and `connect --foreground`.
 * Must not: stop a disk that is in use without force, or wait without a bound.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import { releaseDevice } from './claim.ts';
import type { Device } from './device.ts';
import { blockPath } from './device-name.ts';
import type { Host } from './host.ts';

/** udev probes a disk after its last writer has closed it: such an opener is gone in a moment. */
const OPENER_PATIENCE_MS = 1_500;
const OPENER_POLL_MS = 50;
const STOPPED_TIMEOUT_MS = 10_000;
const SHUTDOWN_TIMEOUT_MS = 2_000;
const KILL_TIMEOUT_MS = 5_000;
/** The helper gives the flush of a forced disconnect 5 s. */
const FORCED_FLUSH_MS = 7_000;

/**
 * Flushes, stops and removes. Throws UNBD_DEVICE_BUSY, with who holds it, while the disk is in use.
 */
export async function disconnectDevice(host: Host, device: Device, force: boolean): Promise<void> {
  const { state, record } = device;
  if (state !== 'DEAD') {
    device.setState('STOPPING', record.reason);
    device.update({ phase: 'stopping' });
    const unblock = force ? failAllAfter(device, FORCED_FLUSH_MS) : undefined;
    try {
      if (!force) await refuseWhileOpen(host, device.id);
      await host.control.disconnect(device.id, force);
    } catch (error) {
      if (device.serverProcess !== undefined && !(await device.serverProcess.waitForExit(0))) {
        device.setState(state, record.reason);
        device.update({ phase: record.phase });
        throw withHolders(host, device, error);
      }
    } finally {
      clearTimeout(unblock);
    }
    // Its queues have been told to end; it says goodbye to the backend and ends.
    await device.serverProcess?.waitForExit(STOPPED_TIMEOUT_MS);
  }
  await cleanUp(host, device, force ? 'leave-to-holders' : 'wait');
  host.log('info', device.id, 'disconnected');
}

/**
 * Before UBLK_F_SAFE_STOP_DEV the driver refuses nobody, and O_EXCL finds only mounts and the like,
 * so who merely has the disk open is looked for here. Throws UNBD_DEVICE_BUSY.
 */
async function refuseWhileOpen(host: Host, id: number): Promise<void> {
  for (let waitedMs = 0; host.nodes.describeHolders(id) !== ''; waitedMs += OPENER_POLL_MS) {
    if (waitedMs >= OPENER_PATIENCE_MS) throw new GatewayError('UNBD_DEVICE_BUSY', 'in use');
    await delay(OPENER_POLL_MS);
  }
}

/** STOP waits for what is in flight; with a backend that hangs, that ends only when we fail it. */
function failAllAfter(device: Device, delayMs: number): NodeJS.Timeout {
  return setTimeout(() => {
    device.peer
      ?.request('failAll', null, { timeoutMs: SHUTDOWN_TIMEOUT_MS })
      .catch(() => undefined);
  }, delayMs);
}

/**
 * What is left once nobody uses the disk, or nobody can. Who holds a disk that was stopped by force
 * keeps its number busy until they let go; that can be left to them.
 */
export async function cleanUp(
  host: Host,
  device: Device,
  release: 'wait' | 'leave-to-holders' = 'wait',
): Promise<void> {
  const { id, record } = device;
  await endServerProcess(host, device);
  if (release === 'wait') await removeFromDriver(host, id);
  else await host.control.delAsync(id);
  if (record.options.name !== undefined) await host.nodes.removeLink(record.options.name, id);
  await host.nodes.remove(record.madeNodes);
  releaseDevice(host, device);
}

/** Asks, then kills. The end of a process that the kernel does not let go is not waited for. */
export async function endServerProcess(host: Host, device: Device): Promise<void> {
  const { serverProcess } = device;
  if (serverProcess === undefined || (await serverProcess.waitForExit(0))) return;
  if (device.peer !== undefined) {
    const options = { timeoutMs: SHUTDOWN_TIMEOUT_MS };
    await device.peer.request('shutdown', null, options).catch(() => undefined);
    if (await serverProcess.waitForExit(SHUTDOWN_TIMEOUT_MS)) return;
  }
  serverProcess.kill();
  if (await serverProcess.waitForExit(KILL_TIMEOUT_MS)) return;
  const { pid } = serverProcess.identity;
  host.log('error', device.id, `server process ${pid} does not end; the kernel holds it`);
}

/** DEL_DEV; where somebody holds the device open, it goes when they close it. */
export async function removeFromDriver(host: Host, id: number): Promise<void> {
  try {
    await host.control.del(id);
  } catch (error) {
    host.log('warning', id, `still in use: ${asGatewayError(error).line}`);
    await host.control.delAsync(id);
  }
}

function withHolders(host: Host, device: Device, error: unknown): GatewayError {
  const cause = asGatewayError(error);
  if (cause.code !== 'UNBD_DEVICE_BUSY') return cause;
  const holders = host.nodes.describeHolders(device.id);
  const what = holders === '' ? 'is in use' : `is in use: ${holders}`;
  return new GatewayError('UNBD_DEVICE_BUSY', `${blockPath(device.id)} ${what}`, {
    hint: `end that, or run: ublk-nbd disconnect --force ${device.id}`,
    cause,
  });
}
