/**
 * Owns: fio's verification while something fails again and again, and that each failure meets
 * requests in flight.
 * Runs in: device test processes, as root.
 * Must not: let a failure count that met an idle disk, or fio's verdict be lost behind another's.
 */
import { readFileSync } from 'node:fs';
import { isLeast } from './amount.ts';
import { sysfsText } from './block.ts';
import { fioVerify } from './fio.ts';
import { until } from './process.ts';
import type { Device } from './product.ts';

/** So many requests have to be on their way to the backend when something is killed. */
const BUSY = 16;
/** Of each direction; a flush counts as a read. */
const BUSY_EACH = 4;
/** As long as fio reads back what it wrote it writes nothing. */
const BUSY_TIMEOUT_MS = 200_000;

const LOAD = { size: isLeast ? '12M' : '48M', iodepth: 32, fsync: 32, bsrange: '512-64k' };

/** Requests that the disk has given away and not got back. */
export function inFlight({ node }: Pick<Device, 'node'>): {
  readonly reads: number;
  readonly writes: number;
} {
  const [reads = 0, writes = 0] = sysfsText(node, 'inflight').split(/\s+/).map(Number);
  return { reads, writes };
}

/** Whether a failure would hurt: reads and writes, 16 requests or more. */
function isBusy(device: Device): boolean {
  const { reads, writes } = inFlight(device);
  return Math.min(reads, writes) >= BUSY_EACH && reads + writes >= BUSY;
}

export interface LoadOptions {
  /** What fio verifies at a time. */
  readonly size?: string;
  /** Whether the backend has requests under way, by its own account. */
  readonly isAtWork?: () => boolean;
  /** Where fio shall write its latency log, a path without ending, so that gaps are known. */
  readonly latencyLog?: string;
}

/**
 * fio verifies at depth 32, with an fsync every 32 writes, while `fail` is called `count` times,
 * each time with requests in flight; it resolves when the device is well again. What fails first,
 * fio or `fail`, ends the other and is what is told. With a latency log it resolves to the `count`
 * longest times without a completion, ms by fio's clock, the longest first.
 */
export async function verifyThrough(
  device: Device,
  count: number,
  fail: (round: number) => Promise<void>,
  { isAtWork = () => true, latencyLog, ...load }: LoadOptions = {},
): Promise<number[]> {
  const gapsMs: number[] = [];
  const logging = latencyLog === undefined ? {} : { write_lat_log: latencyLog };
  let isDone = false;
  const failing = async (): Promise<void> => {
    for (let round = 0; round < count; round += 1) {
      const hurts = (): boolean => isDone || (isBusy(device) && isAtWork());
      await until(`${BUSY} requests are in flight, reads and writes`, hurts, BUSY_TIMEOUT_MS);
      if (isDone) return;
      await fail(round);
    }
  };
  const verifying = async (): Promise<void> => {
    while (!isDone) {
      await fioVerify(device.path, { ...LOAD, ...load, ...logging });
      if (latencyLog !== undefined) gapsMs.push(...gapsIn(`${latencyLog}_clat.1.log`));
    }
  };
  let first: { readonly error: unknown } | undefined;
  const both = [failing(), verifying()].map((one) =>
    one.catch((error) => (first ??= { error })).finally(() => (isDone = true)),
  );
  await Promise.all(both);
  if (first !== undefined) throw first.error;
  return gapsMs.sort((a, b) => b - a).slice(0, count);
}

/** Times between completions, by a log whose lines begin with the time of one. */
function gapsIn(path: string): number[] {
  const times = [...readFileSync(path, 'utf8').matchAll(/^\d+/gm)].map(([text]) => Number(text));
  return times.slice(1).map((time, n) => time - (times[n] ?? time));
}
