/**
 * Owns: `info TARGET`: what a backend offers, without a device, without the controller, without
 * root.
 * Runs in: the CLI.
 * Must not: keep a connection, or take an export where looking at it is enough.
 */
import type { BackendInfo, ObjectTarget, Target } from '../protocols/adapter.ts';
import { GatewayError } from '../protocols/errors.ts';
import { localInfo } from '../protocols/local/info.ts';
import { exportInfo } from '../protocols/nbd/handshake.ts';
import { isObjectTarget } from '../protocols/object-target.ts';
import { unlessAborted } from '../protocols/unless-aborted.ts';
import { dial } from './dial.ts';
import { loadAddon } from './native.ts';
import type { OriginOptions } from './open-source.ts';

const TIMEOUT_MS = 10_000;

export interface TargetInfo {
  readonly target: string;
  readonly exportName?: string;
  readonly description?: string;
  /** Of an NBD backend: it has them for who asks. */
  readonly structuredReplies?: boolean;
  readonly backend: BackendInfo;
  /** Export names that the backend lists; undefined = it does not list. */
  readonly exports?: readonly string[];
}

/** Bounded in time; an abort closes the connection at once. */
export async function backendInfo(
  target: Target,
  signal: AbortSignal,
  origin: OriginOptions = {},
): Promise<TargetInfo> {
  if (isObjectTarget(target)) return objectInfo(target, signal, origin);
  if (target.kind !== 'nbd') return { target: target.text, backend: await localInfo(target) };
  const dialing = dial(loadAddon(), target.endpoint, TIMEOUT_MS);
  const stream = await openedUnlessAborted(dialing, signal);
  const onAbort = (): void => stream.close();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    if (signal.aborted) throw new GatewayError('UNBD_INTERRUPTED', 'interrupted');
    const found = await exportInfo(stream, {
      exportName: target.exportName,
      timeoutMs: TIMEOUT_MS,
    });
    const { description, exports, structuredReplies } = found;
    return {
      target: target.text,
      exportName: found.name ?? target.exportName,
      ...(description === undefined ? {} : { description }),
      structuredReplies,
      backend: found.info,
      ...(exports === undefined ? {} : { exports: exports.map(({ name }) => name) }),
    };
  } catch (error) {
    throw signal.aborted ? new GatewayError('UNBD_INTERRUPTED', 'interrupted') : error;
  } finally {
    signal.removeEventListener('abort', onAbort);
    stream.close();
  }
}

async function objectInfo(
  target: ObjectTarget,
  signal: AbortSignal,
  origin: OriginOptions,
): Promise<TargetInfo> {
  const { openSource } = await import('./open-source.ts');
  const opening = openSource(target, { ...origin, handshakeTimeoutMs: TIMEOUT_MS });
  const source = await openedUnlessAborted(opening, signal);
  await source.close();
  return { target: target.text, backend: source.info };
}

/** What opens after the abort is closed at once. */
function openedUnlessAborted<T extends { close(): unknown }>(
  opening: Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  return unlessAborted(opening, signal).catch((error) => {
    opening.then((late) => late.close()).catch(() => undefined);
    throw error;
  });
}
