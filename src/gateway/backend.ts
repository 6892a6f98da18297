/**
 * Owns: a target opened for a device: its connections past their handshake, or its local file, and
 * what serves the device from there.
 * Runs in: the server process, on the JS main thread.
 * Must not: start queues, or let two connections of one device lead to different exports.
 */
import type { BackendInfo, ObjectIdentity } from '../protocols/adapter.ts';
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import { type LocalTarget, localInfo } from '../protocols/local/info.ts';
import { readFingerprint } from '../protocols/nbd/fingerprint.ts';
import { negotiate } from '../protocols/nbd/handshake.ts';
import { sameExport } from '../protocols/nbd/same-export.ts';
import { isObjectTarget } from '../protocols/object-target.ts';
import { dial, type TransportStream } from './dial.ts';
import { log } from './log.ts';
import type { ConnectOptions } from './messages.ts';
import type { AdapterSpec, Addon, Queues, QueuesEvent } from './native.ts';
import { NbdLife } from './nbd-life.ts';
import { openInTime } from './open-in-time.ts';
import { wantedQueues } from './params.ts';
import type { Connection } from './reconnect.ts';
import type { GatedTarget } from './recovery-policy.ts';
import type { BackendEvent, StartArgument, UnflushedWrites } from './server-messages.ts';

/**
 * For a connection that is wanted but not needed: a backend that allows one client leaves it
 * unanswered.
 */
export const OPTIONAL_TIMEOUT_MS = 2_000;

export interface OpenBackend {
  readonly info: BackendInfo;
  /** How many connections there are; undefined where the target needs none. */
  readonly connections: number | undefined;
  /** Why there are fewer connections than were wanted. */
  readonly shortfall?: string;
  /** Of the content of a read-only export; undefined for others, and where it cannot be read. */
  readonly fingerprint?: string;
  /** Which version of a remote object it is; undefined for others. */
  readonly identity?: ObjectIdentity;
  /** What serves the device from here on; connections beyond its queues are closed. */
  serve(start: StartArgument, told: (event: BackendEvent) => void): Serving;
  close(): void;
}

/** What a device's queues are made of, and who hears of them. */
export interface Serving {
  readonly adapter: AdapterSpec;
  started(queues: Queues): void;
  queuesTold(event: QueuesEvent): void;
  /** Null where it is not known. */
  unflushed(): UnflushedWrites | null;
  /** What is counted beside the queues' own. */
  counters?(): Readonly<Record<string, bigint | number>>;
  /** The device ends: no further attempt to reach the backend. */
  end(): void;
}

/** For queues that need nobody. */
export function alone(adapter: AdapterSpec): Serving {
  const nothing = (): void => undefined;
  return { adapter, started: nothing, queuesTold: nothing, unflushed: () => null, end: nothing };
}

/** Rejects with the reason when the backend cannot be reached or used. */
export async function openBackend(
  addon: Addon,
  options: ConnectOptions,
  processors: number,
  progress: (text: string) => void = () => undefined,
): Promise<OpenBackend> {
  const { target } = options;
  if (target.kind === 'nbd') return openNbd(addon, target, options, processors);
  if (isObjectTarget(target)) {
    // Loading its client costs more than all else at the start of a server process.
    const { openHttpBackend } = await import('./http-backend.ts');
    return openHttpBackend(addon, target, options, processors, progress);
  }
  const info = await localInfo(target);
  wantedQueues(options, info, processors);
  return {
    info,
    connections: undefined,
    serve: ({ readOnly }) => alone(localAdapter(target, readOnly)),
    close: () => undefined,
  };
}

function localAdapter(target: LocalTarget, readOnly: boolean): AdapterSpec {
  if (target.kind === 'null') return { kind: 'null' };
  if (target.kind === 'memory') return { kind: 'memory', sizeBytes: target.sizeBytes };
  return { kind: 'file', path: target.path, readOnly, direct: true };
}

export type NbdTarget = Extract<GatedTarget, { kind: 'nbd' }>;

async function openNbd(
  addon: Addon,
  target: NbdTarget,
  options: ConnectOptions,
  processors: number,
): Promise<OpenBackend> {
  const timeoutMs = options.handshakeTimeoutMs;
  const first = await openInTime(
    () => openConnection(addon, target, options),
    options.openTimeoutMs ?? 0,
    (reason) => log('warning', undefined, `${target.text}: ${reason}; it is tried again`),
  );
  const streams = [first.stream];
  try {
    const shortfall = await openFurther(addon, target, options, processors, first, streams);
    const { stream, found } = first;
    // A writable export may have another content after a reconnect, and be the same.
    const fingerprint = found.info.readOnly
      ? await readFingerprint(stream, found, timeoutMs)
      : undefined;
    return {
      info: found.info,
      connections: streams.length,
      ...(shortfall === undefined ? {} : { shortfall }),
      ...(fingerprint === undefined ? {} : { fingerprint }),
      serve: (start, told) => {
        for (const spare of streams.splice(start.queueCount)) spare.close();
        const life = nbdLife(addon, target, start, told);
        return serving(life, life.adapter(found, streams));
      },
      close: () => {
        for (const open of streams) open.close();
      },
    };
  } catch (error) {
    for (const open of streams) open.close();
    throw error;
  }
}

/** A successor's: it serves the image of its predecessor alone, however late it finds that. */
export async function serveAgain(
  addon: Addon,
  target: GatedTarget,
  start: StartArgument,
  told: (event: BackendEvent) => void,
): Promise<Serving> {
  if (isObjectTarget(target)) {
    const { serveHttpAgain } = await import('./http-backend.ts');
    return serveHttpAgain(addon, target, start, told);
  }
  // The queues hold until it is found.
  const life = nbdLife(addon, target, start, told);
  return serving(life, life.adapterWithoutBackend());
}

function serving(life: NbdLife, adapter: AdapterSpec): Serving {
  return {
    adapter,
    started: (queues) => life.started(queues),
    queuesTold: (event) => life.queuesTold(event),
    unflushed: () => life.unflushed(),
    end: () => life.end(),
  };
}

function nbdLife(
  addon: Addon,
  target: NbdTarget,
  start: StartArgument,
  told: (event: BackendEvent) => void,
): NbdLife {
  const { options } = start.record;
  const connect = () => openConnection(addon, target, options);
  return new NbdLife(addon, start, connect, told);
}

async function openConnection(
  addon: Addon,
  { endpoint, exportName }: NbdTarget,
  { handshakeTimeoutMs, structuredReplies }: ConnectOptions,
  timeoutMs = handshakeTimeoutMs,
): Promise<Connection<TransportStream>> {
  const stream = await dial(addon, endpoint, timeoutMs);
  const found = await negotiate(stream, { exportName, timeoutMs, structuredReplies });
  return { stream, found };
}

/** Adds to `streams`; answers why it stopped early where fewer will do. */
async function openFurther(
  addon: Addon,
  target: NbdTarget,
  options: ConnectOptions,
  processors: number,
  first: Connection<TransportStream>,
  streams: TransportStream[],
): Promise<string | undefined> {
  const { info } = first.found;
  const wanted = wantedQueues(options, info, processors);
  const patient = info.canMultiConn || !wanted.fewerWillDo;
  const limitMs = options.handshakeTimeoutMs;
  const timeoutMs = patient ? limitMs : Math.min(limitMs, OPTIONAL_TIMEOUT_MS);
  while (streams.length < wanted.count) {
    let next: Connection<TransportStream>;
    try {
      next = await openConnection(addon, target, options, timeoutMs);
    } catch (error) {
      const reason = asGatewayError(error);
      if (wanted.fewerWillDo) return reason.message;
      throw new GatewayError(reason.code, `connection ${streams.length + 1}: ${reason.message}`, {
        hint: `the backend may allow ${streams.length} only: use --queues ${streams.length}`,
        cause: reason,
      });
    }
    streams.push(next.stream);
    const difference = sameExport(first.found, next.found);
    if (difference !== undefined) throw differentExports(target, difference);
  }
  return undefined;
}

function differentExports(target: NbdTarget, difference: string): GatewayError {
  const text = `connections to ${target.text} reach different exports: ${difference}`;
  return new GatewayError('UNBD_EXPORT_UNUSABLE', text, {
    hint: 'name one backend, or use --queues 1',
  });
}
