/**
 * Owns: reading what bench/guest left: fio's JSON, the threads' run times, the backends' logs.
 * Runs in: the bench's process on the host.
 * Must not: print, or judge a figure.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Run } from './plan.ts';

/** What one run cost. In the VM a nanosecond is an instruction, so times are counts of these. */
export interface Cost {
  readonly iops: number;
  /** Instructions per I/O, everything together. */
  readonly total: number;
  /** The client's own part: our server process, or the kernel's workers for nbd.ko. */
  readonly client: number;
  readonly backend: number;
}

interface FioSide {
  readonly total_ios: number;
  readonly iops: number;
}

interface FioOutput {
  readonly jobs: readonly [
    { readonly error: number; readonly read: FioSide; readonly write: FioSide },
  ];
}

/** Run time in ns of every thread, by `pid/tid`, with its name. */
type Threads = Map<string, { pid: number; name: string; ranNs: number }>;

function readThreads(file: string): Threads {
  const threads: Threads = new Map();
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const match = /^\/proc\/(\d+)\/task\/(\d+)\/(schedstat|comm):(.*)$/.exec(line);
    if (match === null) continue;
    const [, pid, tid, kind, text] = match;
    const key = `${pid}/${tid}`;
    const thread = threads.get(key) ?? { pid: Number(pid), name: '', ranNs: 0 };
    if (kind === 'comm') thread.name = text ?? '';
    else thread.ranNs = Number(text?.split(' ')[0]);
    threads.set(key, thread);
  }
  return threads;
}

/** How long the threads that `wanted` picks ran between two snapshots, ns. */
function ranBetween(
  before: Threads,
  after: Threads,
  wanted: (thread: { pid: number; name: string }) => boolean,
): number {
  let ran = 0;
  for (const [key, thread] of after) {
    if (wanted(thread)) ran += thread.ranNs - (before.get(key)?.ranNs ?? 0);
  }
  return ran;
}

/** `DEVICE PID` lines: the server process of each of our devices. */
export function readServers(folder: string): Map<string, number> {
  const file = join(folder, 'servers');
  if (!existsSync(file)) return new Map();
  const lines = readFileSync(file, 'utf8').trim().split('\n');
  return new Map(
    lines.map((line): [string, number] => {
      const [device, pid] = line.split(' ');
      assert(device !== undefined && Number(pid) > 0, `no server process was found: ${line}`);
      return [device, Number(pid)];
    }),
  );
}

export function readCost(folder: string, run: Run, servers: Map<string, number>): Cost {
  const fio = JSON.parse(readFileSync(join(folder, `${run.name}.json`), 'utf8')) as FioOutput;
  const job = fio.jobs[0];
  assert.equal(job.error, 0, `fio failed in ${run.name}`);
  const side = run.workload.rw.endsWith('read') ? job.read : job.write;
  const before = readThreads(join(folder, `${run.name}.before`));
  const after = readThreads(join(folder, `${run.name}.after`));
  const server = servers.get(run.device);
  const client = ranBetween(before, after, (thread) =>
    server === undefined ? thread.name.startsWith('kworker/') : thread.pid === server,
  );
  const backend = ranBetween(before, after, (thread) => thread.name === 'nbdkit');
  return {
    iops: side.iops,
    total: 1e9 / side.iops,
    client: client / side.total_ios,
    backend: backend / side.total_ios,
  };
}

/** What a backend was asked to do, by nbdkit's log filter. */
export interface BackendCounts {
  readonly bytesWritten: number;
  readonly writes: number;
  readonly fuaWrites: number;
  readonly flushes: number;
}

export function readBackendCounts(folder: string, client: string): BackendCounts {
  const counts = { bytesWritten: 0, writes: 0, fuaWrites: 0, flushes: 0 };
  for (const line of readFileSync(join(folder, `${client}.log`), 'utf8').split('\n')) {
    // The line of a request; that of its result begins with three dots.
    const match = / connection=\d+ (Write|Flush) (.*)$/.exec(line);
    if (match === null) continue;
    if (match[1] === 'Flush') {
      // partx, which looks for partitions at a connect, syncs before anybody wrote.
      if (counts.writes > 0) counts.flushes++;
      continue;
    }
    const bytes = / count=(0x[0-9a-f]+)/.exec(line)?.[1];
    assert(bytes !== undefined, `a log line without a count: ${line}`);
    counts.writes++;
    counts.bytesWritten += Number(bytes);
    if (/ fua=1/.test(line)) counts.fuaWrites++;
  }
  return counts;
}

/** Whether the two backends' images ended with the same bytes. */
export function imagesAreEqual(folder: string): boolean {
  return readFileSync(join(folder, 'images'), 'utf8').trim() === 'equal';
}
