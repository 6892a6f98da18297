/**
 * Owns: reading what bench/nbd/guest left: what each run cost, and the backends' logs.
 * Runs in: the bench's process on the host.
 * Must not: print, or judge a figure.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ranNs, readFio } from '../measured.ts';
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

export function readCost(folder: string, run: Run, servers: Map<string, number>): Cost {
  const direction = run.workload.rw.endsWith('read') ? 'read' : 'write';
  const side = readFio(folder, run.name, direction);
  const server = servers.get(run.device);
  const client = ranNs(folder, run.name, (thread) =>
    server === undefined ? thread.name.startsWith('kworker/') : thread.pid === server,
  );
  const backend = ranNs(folder, run.name, (thread) => thread.name === 'nbdkit');
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
