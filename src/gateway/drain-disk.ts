/**
 * Owns: a disk's last flush and its STOP: for as long as the drain lasts with its backend and its
 * server process, which may both be away, and after that without.
 * Runs in: the controller and `connect --foreground`; the caller holds the device's `exclusive`.
 * Must not: stop a disk that is in use, or go back once requests have been failed.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import { type FlushResult, isStarted } from './control.ts';
import type { Device } from './device.ts';
import { blockPath } from './device-name.ts';
import { askUnflushed, type Drain, lossOf, NOTHING_UNFLUSHED } from './drain.ts';
import type { Host } from './host.ts';
import { recoverDevice } from './recover.ts';
import { isRecoverable } from './recovery-policy.ts';

/** udev probes a disk after its last writer has closed it: such an opener is gone in a moment. */
const OPENER_PATIENCE_MS = 1_500;
const POLL_MS = 50;
const FAIL_ALL_TIMEOUT_MS = 500;
/** Once every request was failed nothing takes longer, unless the server process stands still. */
const HURRY_MS = 700;
/** Until the helper tells what it could not write. */
const LAST_WORD_MS = 300;

/** Returns with the disk stopped: undefined, or what was lost. Throws when it goes on. */
export async function drainDisk(
  host: Host,
  device: Device,
  drain: Drain,
): Promise<GatewayError | undefined> {
  const { id } = device;
  let pagesFailed = false;
  let flush: Flush | undefined;
  await refuseWhileOpen(host, id, drain);
  while (!drain.over.aborted) {
    flush = startFlush(host, id);
    const result = await follow(host, device, drain, flush);
    pagesFailed ||= result === 'unwritten';
    if (result === 'stopped') return lossOf(id, pagesFailed, NOTHING_UNFLUSHED);
    if (!(await isWorthAnother(host, device, drain))) break;
  }
  const unflushed = await askUnflushed(device);
  await failAndStop(host, device);
  const last = await Promise.race([flush?.result, delay(LAST_WORD_MS)]).catch(() => undefined);
  return lossOf(id, pagesFailed || last === 'unwritten', unflushed);
}

interface Flush {
  readonly result: Promise<FlushResult>;
  cancel(): void;
}

function startFlush(host: Host, id: number): Flush {
  const abort = new AbortController();
  const result = host.control.disconnect(id, abort.signal);
  result.catch(() => undefined);
  return { result, cancel: () => abort.abort() };
}

/**
 * Before UBLK_F_SAFE_STOP_DEV the driver refuses nobody, and O_EXCL finds only mounts and the like,
 * so who merely has the disk open is looked for here. Throws UNBD_DEVICE_BUSY. A helper that an
 * interrupted disconnect left behind ends with its flush.
 */
export async function refuseWhileOpen(host: Host, id: number, drain: Drain): Promise<void> {
  let waitedMs = 0;
  for (;;) {
    const { users, hasHelper } = host.nodes.findHolders(id);
    if (users !== '' && waitedMs >= OPENER_PATIENCE_MS) {
      throw new GatewayError('UNBD_DEVICE_BUSY', 'in use');
    }
    if (users === '' && (!hasHelper || drain.over.aborted)) return;
    if (users === '' && drain.interrupted.aborted) throw interrupted(id);
    await delay(POLL_MS);
    waitedMs += POLL_MS;
  }
}

/**
 * What is not written yet waits for a server process: when it dies meanwhile, a successor takes
 * over and the flush goes on.
 */
async function follow(
  host: Host,
  device: Device,
  drain: Drain,
  flush: Flush,
): Promise<FlushResult | 'over'> {
  const { id } = device;
  const over = told(drain.over, 'over' as const);
  const interruption = told(drain.interrupted, 'interrupted' as const);
  for (;;) {
    const died = deathOf(device);
    const first = await Promise.race([flush.result, over, interruption, died]);
    if (first === 'interrupted') {
      flush.cancel();
      if (!isStarted(await host.control.info(id))) return 'stopped';
      throw interrupted(id);
    }
    if (typeof first === 'string') return first;
    if (!(await waitsForSuccessor(host, id, drain))) return Promise.race([flush.result, over]);
    const recovery = recoverDevice(host, device, `the server process ${first.how}`);
    await endedByDrain(device, drain, recovery);
    device.setState('STOPPING');
    device.update({ phase: 'stopping' });
  }
}

/** A recovery ends with the drain. */
export async function endedByDrain(
  device: Device,
  drain: Drain,
  recovery: Promise<void>,
): Promise<void> {
  const onOver = (): void => device.giveUp();
  drain.over.addEventListener('abort', onOver);
  if (drain.over.aborted) onOver();
  await recovery.finally(() => drain.over.removeEventListener('abort', onOver));
}

/** Of a device that a successor can be given. */
function deathOf({ serverProcess, record }: Device): Promise<{ readonly how: string }> {
  const mayRecover = serverProcess !== undefined && isRecoverable(record.shape?.flags);
  return mayRecover ? serverProcess.ended : new Promise(() => undefined);
}

/** Resolves on the abort; never when it does not come. */
function told<T>(signal: AbortSignal, value: T): Promise<T> {
  return new Promise((resolve) => {
    const onAbort = (): void => resolve(value);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}

/** The end of a server process also follows a STOP; then the driver's device is DEAD. */
async function waitsForSuccessor(host: Host, id: number, drain: Drain): Promise<boolean> {
  while (!drain.over.aborted) {
    const info = await host.control.info(id).catch(() => ({ state: 'LIVE' }));
    if (info?.state !== 'LIVE') return info?.state === 'QUIESCED';
    // Linux 6.12 needs up to 31 s to notice, and a STOP is a moment between the two.
    await delay(POLL_MS);
  }
  return false;
}

/**
 * After a flush that failed: as long as a backend that is away may come back and take what it had
 * acknowledged.
 */
async function isWorthAnother(host: Host, device: Device, drain: Drain): Promise<boolean> {
  if (drain.over.aborted || !isAway(device)) return false;
  if ((await askUnflushed(device))?.writes === 0) return false;
  while (isAway(device)) {
    if (drain.over.aborted) return false;
    if (drain.interrupted.aborted) throw interrupted(device.id);
    if (await device.serverProcess?.waitForExit(0)) break;
    await delay(POLL_MS);
  }
  await refuseWhileOpen(host, device.id, drain);
  return true;
}

function isAway({ backendEvent: { state } }: Device): boolean {
  return state === 'HOLDING' || state === 'FAILING';
}

/** "Fail all now", and whoever waits is let go. There is no way back from here. */
export async function failAndStop(host: Host, device: Device): Promise<void> {
  device.giveUp();
  // Another controller is not to take this for a device that goes on.
  device.update({ phase: 'adding' });
  const hurry = new Hurry(device, 0);
  try {
    await host.control.stop(device.id);
  } catch (error) {
    host.log('error', device.id, `cannot be stopped: ${asGatewayError(error).line}`);
  } finally {
    hurry.end();
  }
  if (!(await device.serverProcess?.waitForExit(HURRY_MS))) device.serverProcess?.kill();
}

/** After a while every request is failed; a server process that does not even do that is killed. */
export class Hurry {
  readonly #device: Device;
  #timer: NodeJS.Timeout;

  constructor(device: Device, afterMs: number) {
    this.#device = device;
    this.#timer = setTimeout(() => this.#failAll(), afterMs);
  }

  end(): void {
    clearTimeout(this.#timer);
  }

  #failAll(): void {
    const { peer, serverProcess } = this.#device;
    this.#timer = setTimeout(() => serverProcess?.kill(), HURRY_MS);
    peer?.request('failAll', null, { timeoutMs: FAIL_ALL_TIMEOUT_MS }).catch(() => undefined);
  }
}

function interrupted(id: number): GatewayError {
  return new GatewayError('UNBD_INTERRUPTED', `interrupted, and ${blockPath(id)} goes on`);
}
