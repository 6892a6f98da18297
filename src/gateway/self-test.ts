/**
 * Owns: the proof that a server process could serve a device, made while another one serves it: a
 * ring, and a connection of its own to the backend, with the identity gate.
 * Runs in: the server process, on the JS main thread, before it serves anything.
 * Must not: change anything at the backend, keep a connection, or touch the device.
 */
import assert from 'node:assert/strict';
import type { BackendInfo, ByteStream, ObjectTarget } from '../protocols/adapter.ts';
import { asGatewayError, type ErrorCode, GatewayError } from '../protocols/errors.ts';
import { localInfo } from '../protocols/local/info.ts';
import { readFingerprint } from '../protocols/nbd/fingerprint.ts';
import { negotiate } from '../protocols/nbd/handshake.ts';
import { judgeIdentity } from '../protocols/nbd/identity.ts';
import { sayDisconnect } from '../protocols/nbd/options.ts';
import { Session } from '../protocols/nbd/session.ts';
import { isObjectTarget } from '../protocols/object-target.ts';
import { type NbdTarget, OPTIONAL_TIMEOUT_MS } from './backend.ts';
import { dial, errnoName } from './dial.ts';
import type { Addon } from './native.ts';
import type { DeviceRecord } from './registry.ts';
import type { SelfTestAnswer, SelfTestArgument } from './server-messages.ts';

const SECTOR_BYTES = 512;

/** How a backend is met that already serves the one client that it allows. */
const NO_SECOND_CLIENT: readonly ErrorCode[] = [
  'UNBD_BACKEND_UNREACHABLE',
  'UNBD_BACKEND_TIMEOUT',
  'UNBD_BACKEND_CLOSED',
];

/** What the backend shows now. */
interface Found {
  readonly info: BackendInfo;
  readonly fingerprint?: string | undefined;
}

/** Rejects with what is wrong. */
export async function selfTest(
  addon: Addon,
  { record }: SelfTestArgument,
): Promise<SelfTestAnswer> {
  tryRing(addon);
  if (record === undefined) return {};
  const { target } = record.options;
  if (isObjectTarget(target)) {
    await lookAtObject(target, record);
    return {};
  }
  if (target.kind !== 'nbd') {
    judge(record, { info: await localInfo(target) });
    return {};
  }
  const found = await look(addon, target, record);
  if ('skipped' in found) return found;
  judge(record, found);
  return {};
}

function tryRing(addon: Addon): void {
  try {
    addon.checkRing();
  } catch (cause) {
    const text = `io_uring cannot be used: ${errnoName(cause)}`;
    throw new GatewayError('UNBD_IO_URING_DISABLED', text, {
      hint: 'see: ublk-nbd doctor',
      cause,
    });
  }
}

/** Reads as the device would: what answers must be the object that the device was made with. */
async function lookAtObject(
  target: ObjectTarget,
  { options, identity }: DeviceRecord,
): Promise<void> {
  assert(identity !== undefined, 'the device was made with an object');
  const { openSource } = await import('./open-source.ts');
  const source = await openSource(target, options, { expected: identity });
  try {
    const into = new Uint8Array(SECTOR_BYTES);
    const { signal } = new AbortController();
    await source.read({ offsetBytes: 0, into, urgent: true, signal, landed: () => undefined });
  } finally {
    await source.close();
  }
}

/** A backend that does not even greet, while it serves the device, takes no second client. */
async function look(
  addon: Addon,
  target: NbdTarget,
  { options, fingerprint: expected, backend }: DeviceRecord,
): Promise<Found | { readonly skipped: string }> {
  const { handshakeTimeoutMs: limitMs, structuredReplies } = options;
  const isPatient = backend?.canMultiConn === true;
  const timeoutMs = isPatient ? limitMs : Math.min(limitMs, OPTIONAL_TIMEOUT_MS);
  let stream: Heard | undefined;
  try {
    stream = new Heard(await dial(addon, target.endpoint, timeoutMs));
    const { exportName } = target;
    const found = await negotiate(stream, { exportName, timeoutMs, structuredReplies });
    const isWanted = expected !== undefined;
    const fingerprint = isWanted ? await readFingerprint(stream, found, timeoutMs) : undefined;
    await sayDisconnect(new Session(stream, timeoutMs));
    return { info: found.info, fingerprint };
  } catch (thrown) {
    const error = asGatewayError(thrown);
    const isRefused = stream?.heard !== true && NO_SECOND_CLIENT.includes(error.code);
    if (isRefused) return { skipped: error.message };
    throw error;
  } finally {
    stream?.close();
  }
}

/** A stream that knows whether the backend has ever said anything. */
class Heard implements ByteStream {
  readonly #stream: ByteStream;
  heard = false;

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  get peer(): string {
    return this.#stream.peer;
  }

  setDeadline(timeoutMs: number): void {
    this.#stream.setDeadline(timeoutMs);
  }

  send(bytes: Uint8Array): Promise<void> {
    return this.#stream.send(bytes);
  }

  async recv(lengthBytes: number): Promise<Buffer> {
    const bytes = await this.#stream.recv(lengthBytes);
    this.heard = true;
    return bytes;
  }

  close(): void {
    this.#stream.close();
  }
}

function judge({ shape, backend, fingerprint }: DeviceRecord, found: Found): void {
  assert(shape !== undefined && backend !== undefined, 'the device was added');
  const verdict = judgeIdentity(shape, backend, found.info);
  const differs = found.fingerprint !== undefined && found.fingerprint !== fingerprint;
  const reason = verdict.kind === 'other' ? verdict.reason : 'the content is another one';
  if (verdict.kind === 'same' && !differs) return;
  throw new GatewayError('UNBD_EXPORT_UNUSABLE', `the backend has another image: ${reason}`, {
    hint: 'look at the backend',
  });
}
