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
import { endServerProcess } from './end-process.ts';
import type { Host } from './host.ts';
import { recoverOrBury } from './lost.ts';
import type { DeviceState } from './messages.ts';
import { recoverDevice } from './recover.ts';
import { isRecoverable } from './recovery-policy.ts';
import type { DeviceRecord } from './registry.ts';

/** udev probes a disk after its last writer has closed it: such an opener is gone in a moment. */
const OPENER_PATIENCE_MS = 1_500;
const OPENER_POLL_MS = 50;
/** Until the driver knows that a process has died; Linux 6.12 takes up to 31 s. */
const RELEASE_TIMEOUT_MS = 40_000;
const STOPPED_TIMEOUT_MS = 10_000;
const FAIL_ALL_TIMEOUT_MS = 2_000;
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
      await flushAndStop(host, device, force);
    } catch (error) {
      const isServed = (await device.serverProcess?.waitForExit(0)) === false;
      if (isServed || mustBeFlushed(device, force)) {
        await takeBack(host, device, state, record);
        throw withHolders(host, device, error);
      }
    } finally {
      clearTimeout(unblock);
    }
    // Its queues have been told to end; it says goodbye to the backend and ends.
    await device.serverProcess?.waitForExit(STOPPED_TIMEOUT_MS);
  }
  await cleanUp(host, device, force ? 'leave-to-holders' : 'wait');
  host.tell('disconnected', device.id, record.options.target.text);
  host.spares.balance();
}

/** What its disk holds waits for a successor; it is not given up because nobody serves it now. */
function mustBeFlushed(device: Device, force: boolean): boolean {
  return !force && device.state !== 'DEAD' && isRecoverable(device.record.shape?.flags);
}

/** It could not be stopped, and stays; its server process may have died in between. */
async function takeBack(
  host: Host,
  device: Device,
  state: DeviceState,
  { phase, reason }: DeviceRecord,
): Promise<void> {
  if (device.state !== 'STOPPING') return;
  device.setState(state, reason);
  device.update({ phase });
  if (await device.serverProcess?.waitForExit(0)) {
    await recoverOrBury(host, device, 'the server process ended during a disconnect');
  }
}

function unflushed({ record }: Device): GatewayError {
  const text = `what was written could not be flushed: ${record.reason}`;
  return new GatewayError('UNBD_SERVER_PROCESS', text, {
    hint: 'to give it up: ublk-nbd disconnect --force',
  });
}

/**
 * What is not written yet waits for a server process: when it dies meanwhile, a successor takes
 * over and the flush goes on. By force the STOP that follows fails what waits.
 */
async function flushAndStop(host: Host, device: Device, force: boolean): Promise<void> {
  const { id, serverProcess } = device;
  const stopping = host.control.disconnect(id, force).then(() => 'stopped' as const);
  const canRecover = !force && isRecoverable(device.record.shape?.flags);
  if (!canRecover || serverProcess === undefined) return void (await stopping);
  stopping.catch(() => undefined);
  const died = serverProcess.ended.then(({ how }) => ({ how }));
  const first = await Promise.race([stopping, died]);
  if (first !== 'stopped' && (await waitsForSuccessor(host, id))) {
    await recoverDevice(host, device, `the server process ${first.how}`);
    // One that holds goes on when its backend is there again.
    if (device.state !== 'CONNECTED' && device.state !== 'HOLDING') throw unflushed(device);
    device.setState('STOPPING');
    device.update({ phase: 'stopping' });
  }
  await stopping;
}

/** The end of a server process also follows a STOP; then the driver's device is DEAD. */
async function waitsForSuccessor(host: Host, id: number): Promise<boolean> {
  for (let waitedMs = 0; waitedMs < RELEASE_TIMEOUT_MS; waitedMs += OPENER_POLL_MS) {
    const info = await host.control.info(id).catch(() => ({ state: 'LIVE' }));
    if (info?.state !== 'LIVE') return info?.state === 'QUIESCED';
    // Linux 6.12 needs a while to notice, and a STOP is a moment between the two.
    await delay(OPENER_POLL_MS);
  }
  return false;
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
      ?.request('failAll', null, { timeoutMs: FAIL_ALL_TIMEOUT_MS })
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
