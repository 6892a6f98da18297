/**
 * Owns: the way from a dead server process to a successor that serves the same device, and where
 * there is none to one that answers everything with an error.
 * Runs in: the controller and `connect --foreground`; the caller holds the device's `exclusive`.
 * Must not: let anybody hang: it ends with a device that is served, FATAL or DEAD, or is left to
 * who gave it up. Serve bytes of another image. Send START_USER_RECOVERY twice before an END has
 * succeeded where the kernel does not bear it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { asGatewayError } from '../protocols/errors.ts';
import { judgeIdentity } from '../protocols/nbd/identity.ts';
import { unlessAborted } from '../protocols/unless-aborted.ts';
import { isStarted } from './control.ts';
import type { Device } from './device.ts';
import { endServerProcess } from './end-process.ts';
import type { Host } from './host.ts';
import { type ReadyProcess, serverProcessForDevice } from './launch-for-device.ts';
import { buryDevice, whileServed } from './lost.ts';
import { hasIdentityGate, hasModernRecovery, isCrashLoop } from './recovery-policy.ts';
import type { DeviceRecord } from './registry.ts';
import type { Peer } from './rpc.ts';
import type { OpenAnswer, OpenArgument } from './server-messages.ts';
import { startQueues } from './start-queues.ts';

const ATTEMPTS = 5;
const FIRST_PAUSE_MS = 100;
const LAST_PAUSE_MS = 5_000;
/** How long a successor tries to reach the backend. */
const BACKEND_PATIENCE_MS = 30_000;
/** Above what the server process's own limits add up to; it answers or fails before. */
const OPEN_TIMEOUT_MS = 300_000;

/**
 * Ends with the device CONNECTED, FATAL, DEAD, or given up. `reason` is why it is not served;
 * `prepared` is the first successor to try.
 */
export async function recoverDevice(
  host: Host,
  device: Device,
  reason: string,
  prepared?: ReadyProcess,
): Promise<void> {
  const startedAtMs = performance.now();
  device.setState('RECOVERING', reason);
  device.update({});
  host.tell('recovering', device.id, reason);
  let verdict: string | undefined;
  let pauseMs = FIRST_PAUSE_MS;
  for (let attempt = 1; attempt <= ATTEMPTS && verdict === undefined; attempt += 1) {
    if (isCrashLoop(device.record.crashesAtMs ?? [])) break;
    try {
      verdict = await tryRecovery(host, device, attempt === 1 ? prepared : undefined);
      if (verdict === undefined) {
        recovered(host, device, performance.now() - startedAtMs);
        return;
      }
    } catch (thrown) {
      const { message } = asGatewayError(thrown);
      if (!device.ending.aborted) host.log('warning', device.id, `recovery failed: ${message}`);
      reason = message;
    }
    await endServerProcess(host, device);
    if (await isGone(host, device)) {
      return buryDevice(host, device, 'another program took the device away');
    }
    if (verdict === undefined) await pause(device, pauseMs);
    if (device.ending.aborted) return;
    pauseMs *= 2;
  }
  await failDevice(host, device, verdict ?? `server processes die again and again: ${reason}`);
}

/** What the user has mended: a device that answers with errors gets another chance. */
export async function recoverByHand(host: Host, device: Device): Promise<void> {
  if (device.state !== 'FATAL') return;
  device.setState('RECOVERING', device.record.reason);
  device.update({ crashesAtMs: [] });
  await endServerProcess(host, device);
  await recoverDevice(host, device, 'asked for by hand');
}

/**
 * A server process that answers every request with EIO takes the device over; where not even that
 * works the device is taken from the driver. Either way nobody waits.
 */
export async function failDevice(host: Host, device: Device, reason: string): Promise<void> {
  host.tell('fatal', device.id, reason);
  if (isBeyondRecovery(device.record)) return buryDevice(host, device, reason);
  try {
    const peer = await serverProcessForDevice(host, device, device.ending);
    await takeOver(host, device, peer, true);
    device.setState('FATAL', reason);
    device.update({ phase: 'fatal', crashesAtMs: [] });
  } catch (error) {
    await endServerProcess(host, device);
    if (device.ending.aborted) return;
    const { message } = asGatewayError(error);
    host.log('error', device.id, `cannot be served even with errors: ${message}`);
    await buryDevice(host, device, reason);
  }
}

/** Then there is nothing to recover, and nothing that waits. */
async function isGone(host: Host, device: Device): Promise<boolean> {
  return !isStarted(await host.control.info(device.id).catch(() => ({ state: 'LIVE' })));
}

function recovered(host: Host, device: Device, durationMs: number): void {
  device.serveAgain();
  device.update({ phase: 'live' });
  const pid = device.serverProcess?.identity.pid;
  const duration = `${Math.round(durationMs)} ms`;
  host.tell('reissued', device.id, `process ${pid} took over in ${duration}`);
  host.spares.balance();
}

/**
 * One successor. Undefined: it serves; a text: no successor ever can, and why. Throws when another
 * may.
 */
async function tryRecovery(
  host: Host,
  device: Device,
  prepared: ReadyProcess | undefined,
): Promise<string | undefined> {
  if (isBeyondRecovery(device.record)) {
    return 'a successor of the server process died half-way, which this kernel cannot mend';
  }
  const peer = await serverProcessForDevice(host, device, device.ending, prepared);
  if (hasIdentityGate(device.record.options.target)) {
    // What it serves is proven to be the image of its predecessor, however late that is.
    await takeOver(host, device, peer, false);
    return undefined;
  }
  const opened = await openBackend(host, device, peer);
  if (typeof opened === 'string') return opened;
  const difference = differenceTo(device.record, opened);
  if (difference !== undefined) return `the backend has another image: ${difference}`;
  await takeOver(host, device, peer, false);
  device.update({ backend: opened.backend });
  return undefined;
}

/** The driver lets go of the dead process, the successor fetches, the driver starts to send. */
async function takeOver(host: Host, device: Device, peer: Peer, failing: boolean): Promise<void> {
  const { id, record } = device;
  if (record.recovery !== 'started' || isModern(record)) {
    // Recorded before: a controller that dies in between must not be followed by a second START.
    device.update({ recovery: 'started' });
    // Awaited whatever the successor does meanwhile: the next one has to know whether it was done.
    await unlessAborted(host.control.recoverStart(id), device.ending).catch((error) => {
      if (asGatewayError(error).code === 'UNBD_DEVICE_BUSY') device.update({ recovery: 'none' });
      throw error;
    });
  }
  device.update({ recovery: 'fetching' });
  const how = { suppressPartitionScan: false, recovery: true, failing };
  await unlessEnded(device, startQueues(device, peer, how));
  const abort = new AbortController();
  try {
    await unlessEnded(device, host.control.recoverEnd(id, peer.remote.pid, abort.signal));
  } finally {
    abort.abort();
  }
  device.update({ recovery: 'none' });
}

/** What the backend offers; a text when it stayed away. Throws when the server process ended. */
async function openBackend(host: Host, device: Device, peer: Peer): Promise<OpenAnswer | string> {
  const { options, shape } = device.record;
  // The device has its queues, so fewer connections will not do.
  const same = { ...options, queues: shape?.queues ?? 1 };
  const argument: OpenArgument = { options: same, processors: host.processors };
  const deadlineMs = performance.now() + BACKEND_PATIENCE_MS;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs *= 2) {
    try {
      const opening = peer.request('open', argument, { timeoutMs: OPEN_TIMEOUT_MS });
      return (await unlessEnded(device, opening)) as OpenAnswer;
    } catch (error) {
      if (peer.isClosed || device.ending.aborted) throw error;
      const { message } = asGatewayError(error);
      if (performance.now() >= deadlineMs) return message;
      host.log('warning', device.id, `the successor waits for its backend: ${message}`);
    }
    await pause(device, pauseMs);
  }
}

/** Why `opened` cannot be the image that the device has shown until now. */
function differenceTo({ shape, backend }: DeviceRecord, opened: OpenAnswer): string | undefined {
  if (shape === undefined || backend === undefined) return 'it was never added';
  const verdict = judgeIdentity(shape, backend, opened.backend);
  return verdict.kind === 'other' ? verdict.reason : undefined;
}

/** This kernel neither takes back the tags that a dead successor has, nor gives them anew. */
function isBeyondRecovery(record: DeviceRecord): boolean {
  return record.recovery === 'fetching' && !isModern(record);
}

function isModern({ shape }: DeviceRecord): boolean {
  return hasModernRecovery(shape?.flags ?? 0n);
}

/** Rejects as soon as the device's server process ends, or the device is given up. */
function unlessEnded<T>(device: Device, promise: Promise<T>): Promise<T> {
  return unlessAborted(whileServed(device, promise), device.ending);
}

async function pause(device: Device, pauseMs: number): Promise<void> {
  const options = { signal: device.ending };
  await delay(Math.min(pauseMs, LAST_PAUSE_MS), undefined, options).catch(() => undefined);
}
