/**
 * Owns: the way of a device from its server process to one of this controller's version, while I/O
 * goes on: the new one proves itself, then the old one ends and the new one recovers the device.
 * Runs in: the controller; the caller holds the device's `exclusive`.
 * Must not: touch the old server process before the new one has passed its self-test, or upgrade
 * where the hand-over would fail a request.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import { type Device, isServed } from './device.ts';
import type { Host } from './host.ts';
import { endUnused, launchReady, type ReadyProcess, versionOf } from './launch-for-device.ts';
import { serverEnded } from './lost.ts';
import type { DeviceUpgrade, DeviceView } from './messages.ts';
import { recoverDevice } from './recover.ts';
import { isRecoverable, isReissued } from './recovery-policy.ts';
import type { DeviceRecord } from './registry.ts';
import type { SelfTestAnswer, SelfTestArgument } from './server-messages.ts';

const PING_TIMEOUT_MS = 2_500;
/** Above the self-test's own limits, which begin with the handshake's. */
const SELF_TEST_GRACE_MS = 30_000;
/** What is in flight is answered by then, or the upgrade is given up; below QUIESCE_LIMIT_MS. */
const QUIESCE_TIMEOUT_MS = 5_000;
const END_TIMEOUT_MS = 5_000;
/** After the new server process serves, until it has found its backend. */
const BACKEND_GRACE_MS = 5_000;
const BACKEND_POLL_MS = 10;

/** Rejects with the old server process still serving, unless the hand-over itself failed. */
export async function upgradeDevice(
  host: Host,
  device: Device,
  version: string,
): Promise<DeviceUpgrade> {
  await knowItsState(device);
  refuseUnlessReady(host, device);
  const before = await device.view(false);
  host.spares.refresh();
  const successor = await launchTested(host, version, device);
  try {
    // The test has taken its time.
    refuseUnlessReady(host, device);
    if (successor.peer.isClosed) throw cannotServe(version, serverEnded('ended by itself'));
    const startedAtMs = performance.now();
    await handOver(host, device, successor);
    await backendIsFound(device);
    return told(host, device, before, Math.round(performance.now() - startedAtMs));
  } finally {
    if (device.serverProcess !== successor.serverProcess) endUnused(successor);
  }
}

/** A new server process that could serve `device`, or without one, a device. */
export async function launchTested(
  host: Host,
  version: string,
  device?: Device,
): Promise<ReadyProcess> {
  const launched = await launchReady(host, true, device?.ending).catch((error) => {
    throw cannotServe(version, error);
  });
  try {
    const found = versionOf(launched);
    if (found !== version) {
      throw new GatewayError('UNBD_VERSION', `the package is of version ${found} now`, {
        hint: 'it was replaced just now: run the command again',
      });
    }
    await passSelfTest(host, launched, device);
    return launched;
  } catch (error) {
    endUnused(launched);
    throw cannotServe(version, error);
  }
}

async function passSelfTest(
  host: Host,
  { peer }: ReadyProcess,
  device: Device | undefined,
): Promise<void> {
  await peer.request('ping', null, { timeoutMs: PING_TIMEOUT_MS });
  const { record } = device ?? {};
  const argument: SelfTestArgument = { record };
  const timeoutMs = (record?.options.handshakeTimeoutMs ?? 0) + SELF_TEST_GRACE_MS;
  const { skipped } = (await peer.request('selfTest', argument, { timeoutMs })) as SelfTestAnswer;
  if (skipped === undefined) return;
  const text = 'the new server process did not see the backend, which takes no second client';
  host.log('warning', device?.id, `${text}: ${skipped}`);
}

/** From an adopted server process the controller may not have heard yet. */
async function knowItsState(device: Device): Promise<void> {
  const peer = await device.comingPeer();
  // What it had to tell came before this answer. One that does not answer may be replaced too.
  await peer?.request('ping', null, { timeoutMs: PING_TIMEOUT_MS }).catch(() => undefined);
}

function refuseUnlessReady(host: Host, device: Device): void {
  const { id, state, record } = device;
  if (host.devices.get(id) !== device) {
    throw new GatewayError('UNBD_DEVICE_ABSENT', `there is no device ublkb${id} any more`, {
      hint: 'see: ublk-nbd list',
    });
  }
  const obstacle = obstacleOf(record);
  if (obstacle !== undefined) {
    throw new GatewayError('UNBD_USAGE', `ublkb${id} cannot be upgraded: ${obstacle}`, {
      hint: 'disconnect it and connect it again',
    });
  }
  if (state === 'CONNECTED') return;
  const why = record.reason === undefined ? '' : `: ${record.reason}`;
  const text = `ublkb${id} is not upgraded while it is ${state}${why}`;
  if (isServed(state) && state !== 'FATAL') {
    throw new GatewayError('UNBD_BACKEND_UNREACHABLE', text, {
      hint: 'try again when its backend is back',
    });
  }
  throw new GatewayError('UNBD_SERVER_PROCESS', text, {
    hint: `run: ublk-nbd recover ${id}`,
  });
}

/** Why no other process can take over without an error for somebody. */
function obstacleOf({ options, shape }: DeviceRecord): string | undefined {
  if (isReissued(shape?.flags)) return undefined;
  if (isRecoverable(shape?.flags)) {
    return 'what is in flight could not be sent again (--resend-writes no)';
  }
  if (options.target.kind === 'memory') return 'memory: is lost with its server process';
  return 'it was made to end with its server process (--on-crash fail)';
}

/**
 * Of a process that dies by accident a late write may still reach the backend, after the successor
 * has sent it again and a newer one. An upgrade leaves nothing in flight that could.
 */
async function quiesce(host: Host, { id, peer }: Device): Promise<void> {
  try {
    await peer?.request('quiesce', null, { timeoutMs: QUIESCE_TIMEOUT_MS });
  } catch (thrown) {
    const error = asGatewayError(thrown);
    if (error.code === 'UNBD_VERSION' || peer?.isClosed === true) {
      host.log('warning', id, `its server process ends with requests in flight: ${error.message}`);
      return;
    }
    void peer?.request('unquiesce', null, { timeoutMs: PING_TIMEOUT_MS }).catch(() => undefined);
    const text = `the requests of ublkb${id} were not answered in ${QUIESCE_TIMEOUT_MS / 1000} s`;
    throw new GatewayError('UNBD_BACKEND_TIMEOUT', `${text}; nothing was changed`, {
      hint: 'try again when the backend answers',
      cause: error,
    });
  }
}

/** The kernel keeps what was not done, and gives it to the successor. */
async function handOver(host: Host, device: Device, successor: ReadyProcess): Promise<void> {
  const { serverProcess: old } = device;
  await quiesce(host, device);
  old?.kill();
  await old?.waitForExit(END_TIMEOUT_MS);
  const { pid } = successor.serverProcess.identity;
  await recoverDevice(host, device, `process ${pid} takes over for an upgrade`, successor);
  const { id, state, record } = device;
  if (isServed(state) && state !== 'FATAL') return;
  const why = record.reason === undefined ? '' : `: ${record.reason}`;
  throw new GatewayError('UNBD_SERVER_PROCESS', `ublkb${id} is ${state}${why}`, {
    hint: `see: ublk-nbd logs ${id}`,
  });
}

/** A successor begins without a backend, and finds it at once where it is there. */
async function backendIsFound(device: Device): Promise<void> {
  const limitMs = device.record.options.handshakeTimeoutMs + BACKEND_GRACE_MS;
  const deadlineMs = performance.now() + limitMs;
  while (device.state !== 'CONNECTED' && performance.now() < deadlineMs) {
    await delay(BACKEND_POLL_MS);
  }
}

async function told(
  host: Host,
  device: Device,
  before: DeviceView,
  pauseMs: number,
): Promise<DeviceUpgrade> {
  const after = await device.view(false);
  const [from, to] = [before, after].map(
    ({ serverPid, serverVersion }) => `process ${serverPid} (${serverVersion ?? 'unknown'})`,
  );
  const state = after.state === 'CONNECTED' ? '' : `, now ${after.state}`;
  const text = `${from} -> ${to}, paused ${pauseMs} ms${state}`;
  host.tell('upgraded', device.id, text);
  return { before, after, pauseMs, text };
}

function cannotServe(version: string, thrown: unknown): GatewayError {
  const cause = asGatewayError(thrown);
  const text = `version ${version} cannot take over, and nothing was changed: ${cause.message}`;
  return new GatewayError(cause.code, text, {
    hint: cause.hint ?? 'mend that and try again',
    cause,
  });
}
