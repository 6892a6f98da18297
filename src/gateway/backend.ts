/**
 * Owns: a target opened for a device: its connections past their handshake, or its local file.
 * Runs in: the server process, on the JS main thread.
 * Must not: start queues, or let two connections of one device lead to different exports.
 */
import type { BackendInfo, Target } from '../protocols/adapter.ts';
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import { localInfo } from '../protocols/local/info.ts';
import { type NbdExport, negotiate } from '../protocols/nbd/handshake.ts';
import { sameExport } from '../protocols/nbd/same-export.ts';
import { dial, type TransportStream } from './dial.ts';
import type { ConnectOptions } from './messages.ts';
import type { AdapterSpec, Addon } from './native.ts';
import { wantedQueues } from './params.ts';

/**
 * For a connection that is wanted but not needed: a backend that allows one client leaves it
 * unanswered.
 */
const OPTIONAL_TIMEOUT_MS = 2_000;

export interface OpenBackend {
  readonly info: BackendInfo;
  /** How many connections there are; undefined where the target needs none. */
  readonly connections: number | undefined;
  /** Why there are fewer connections than were wanted. */
  readonly shortfall?: string;
  /** What the queues are to be made of; connections beyond `queueCount` are closed. */
  adapterFor(queueCount: number, readOnly: boolean): AdapterSpec;
  close(): void;
}

/** Rejects with the reason when the backend cannot be reached or used. */
export async function openBackend(
  addon: Addon,
  options: ConnectOptions,
  processors: number,
): Promise<OpenBackend> {
  const { target } = options;
  if (target.kind === 'nbd') return openNbd(addon, target, options, processors);
  const info = await localInfo(target);
  wantedQueues(options, info, processors);
  return {
    info,
    connections: undefined,
    adapterFor: (_, readOnly) => localAdapter(target, readOnly),
    close: () => undefined,
  };
}

type LocalTarget = Exclude<Target, { kind: 'nbd' }>;

function localAdapter(target: LocalTarget, readOnly: boolean): AdapterSpec {
  if (target.kind === 'null') return { kind: 'null' };
  if (target.kind === 'memory') return { kind: 'memory', sizeBytes: target.sizeBytes };
  return { kind: 'file', path: target.path, readOnly, direct: true };
}

type NbdTarget = Extract<Target, { kind: 'nbd' }>;

async function openNbd(
  addon: Addon,
  target: NbdTarget,
  options: ConnectOptions,
  processors: number,
): Promise<OpenBackend> {
  const first = await openConnection(addon, target, options.handshakeTimeoutMs);
  const streams = [first.stream];
  try {
    const shortfall = await openFurther(addon, target, options, processors, first, streams);
    return {
      info: first.found.info,
      connections: streams.length,
      ...(shortfall === undefined ? {} : { shortfall }),
      adapterFor: (queueCount, readOnly) => {
        for (const stream of streams.splice(queueCount)) stream.close();
        return nbdAdapter(first.found, streams, readOnly);
      },
      close: () => {
        for (const stream of streams) stream.close();
      },
    };
  } catch (error) {
    for (const stream of streams) stream.close();
    throw error;
  }
}

interface Connection {
  readonly stream: TransportStream;
  readonly found: NbdExport;
}

async function openConnection(
  addon: Addon,
  target: NbdTarget,
  timeoutMs: number,
): Promise<Connection> {
  const stream = await dial(addon, target.endpoint, timeoutMs);
  const found = await negotiate(stream, { exportName: target.exportName, timeoutMs });
  return { stream, found };
}

/** Adds to `streams`; answers why it stopped early where fewer will do. */
async function openFurther(
  addon: Addon,
  target: NbdTarget,
  options: ConnectOptions,
  processors: number,
  first: Connection,
  streams: TransportStream[],
): Promise<string | undefined> {
  const { info } = first.found;
  const wanted = wantedQueues(options, info, processors);
  const patient = info.canMultiConn || !wanted.fewerWillDo;
  const limitMs = options.handshakeTimeoutMs;
  const timeoutMs = patient ? limitMs : Math.min(limitMs, OPTIONAL_TIMEOUT_MS);
  while (streams.length < wanted.count) {
    let next: Connection;
    try {
      next = await openConnection(addon, target, timeoutMs);
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

function nbdAdapter(
  found: NbdExport,
  streams: readonly TransportStream[],
  readOnly: boolean,
): AdapterSpec {
  const { info, structuredReplies } = found;
  return {
    kind: 'nbd',
    readOnly,
    reconnectDelayMs: 0,
    holdDeadlineMs: 0,
    requestTimeoutMs: 0,
    unflushed: 'trust',
    inDoubt: false,
    durableWrites: false,
    resendWrites: true,
    transports: streams.map((stream) => stream.transport),
    structuredReplies,
    canFlush: info.canFlush,
    canFua: info.canFua,
    canTrim: info.canTrim,
    canWriteZeroes: info.canWriteZeroes,
    maximumBlockBytes: info.maximumBlockBytes,
    minimumBlockBytes: info.minimumBlockBytes,
    epoch: 0,
  };
}
