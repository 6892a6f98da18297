/**
 * Owns: the time that a disconnect gives to what is not written yet, and what the user is told when
 * it was not enough.
 * Runs in: the controller and `connect --foreground`; the clock also in the CLI, for `umount`.
 * Must not: give up a backend that takes writes, however slowly: time counts while nothing is done.
 */
import { GatewayError } from '../protocols/errors.ts';
import type { Device } from './device.ts';
import { blockPath } from './device-name.ts';
import { hasVolatileWrites } from './params.ts';
import type { UnflushedWrites } from './server-messages.ts';
import { readIfThere } from './sysfs.ts';

export const DEFAULT_DRAIN_TIMEOUT_MS = 30_000;
/** Who asks for force does not want to wait. */
const DEFAULT_FORCED_TIMEOUT_MS = 5_000;
/** As long as it takes to find out that the disk is in use. */
const LEAST_TIMEOUT_MS = 500;
const POLL_MS = 100;
/** With what failing all takes it stays below the 2 s that are promised after the drain. */
const ASK_TIMEOUT_MS = 800;
/** Writes, discards and flushes that were completed (Documentation/block/stat.rst). */
const DONE_FIELDS = [4, 11, 15];

/** How a device is to be disconnected. */
export interface DisconnectHow {
  /** Whoever uses it. */
  readonly force: boolean;
  readonly drainTimeoutMs?: number | undefined;
  /** Aborted, it is taken back, as long as it can be. */
  readonly signal?: AbortSignal | undefined;
}

export const NOTHING_UNFLUSHED: UnflushedWrites = { writes: 0, bytes: 0n };

export class Drain {
  readonly force: boolean;
  readonly timeoutMs: number;
  /** The asker is gone, or does not want it any more. */
  readonly interrupted: AbortSignal;
  readonly #over = new AbortController();
  readonly #timer: NodeJS.Timeout;

  constructor(device: Device, { force, drainTimeoutMs, signal }: DisconnectHow) {
    this.force = force;
    this.timeoutMs =
      drainTimeoutMs ?? (force ? DEFAULT_FORCED_TIMEOUT_MS : DEFAULT_DRAIN_TIMEOUT_MS);
    this.interrupted = signal ?? new AbortController().signal;
    const limitMs = Math.max(this.timeoutMs, LEAST_TIMEOUT_MS);
    this.#timer = whenStalled(device.id, limitMs, () => this.#over.abort());
  }

  /** Aborted when what is not written is given up. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  end(): void {
    clearInterval(this.#timer);
  }
}

/** Calls `onStall` when the disk has completed nothing for so long; returns the clock of that. */
export function whenStalled(id: number, limitMs: number, onStall: () => void): NodeJS.Timeout {
  let done = requestsDone(id);
  let sinceMs = performance.now();
  return setInterval(() => {
    const before = done;
    done = requestsDone(id);
    const nowMs = performance.now();
    if (done !== before) sinceMs = nowMs;
    if (nowMs - sinceMs >= limitMs) onStall();
  }, POLL_MS);
}

/** Differs whenever the disk has completed something. */
function requestsDone(id: number): string {
  const fields = (readIfThere(`/sys/block/ublkb${id}/stat`) ?? '').trim().split(/\s+/);
  return DONE_FIELDS.map((index) => fields[index]).join(' ');
}

/** What the backend acknowledged and never flushed; undefined where nobody knows. */
export async function askUnflushed({ peer, record }: Device): Promise<UnflushedWrites | undefined> {
  if (!hasVolatileWrites(record)) return NOTHING_UNFLUSHED;
  const options = { timeoutMs: ASK_TIMEOUT_MS };
  const answer = peer?.request('unflushed', null, options).catch(() => undefined);
  return ((await answer) ?? undefined) as UnflushedWrites | undefined;
}

/** The device is gone; undefined where nothing is lost with it. */
export function lossOf(
  id: number,
  pagesFailed: boolean,
  unflushed: UnflushedWrites | undefined,
): GatewayError | undefined {
  if (!pagesFailed && unflushed?.writes === 0) return undefined;
  const what = [
    ...(pagesFailed ? ['what the page cache could not write is lost'] : []),
    ...(unflushed?.writes === 0 ? [] : [inDoubt(unflushed)]),
  ];
  return dataLost(`${blockPath(id)} was removed without its backend: ${what.join(', and ')}`);
}

export function dataLost(text: string): GatewayError {
  return new GatewayError('UNBD_DATA_LOST', text, {
    hint: 'check the image before it is used again',
  });
}

function inDoubt(unflushed: UnflushedWrites | undefined): string {
  if (unflushed === undefined)
    return 'writes that were never flushed may be lost, if there were any';
  const { writes, bytes } = unflushed;
  const [count, were] = writes === 1 ? ['1 write', 'was'] : [`${writes} writes`, 'were'];
  return `${count} (${bytes} bytes) that ${were} never flushed may be lost`;
}
