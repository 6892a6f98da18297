/**
 * Owns: reading what any guest leaves of a run: fio's JSON and the threads' run times.
 * Runs in: the bench's process on the host.
 * Must not: print, or judge a figure.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** What fio tells of one direction; in the VM its ns are instructions. */
export interface FioSide {
  readonly total_ios: number;
  readonly iops: number;
  readonly bw_bytes: number;
  readonly clat_ns: { readonly mean: number };
}

interface FioJob {
  readonly error: number;
  readonly read: FioSide;
  readonly write: FioSide;
}

export interface Thread {
  readonly pid: number;
  readonly name: string;
}

/** Run time in ns of every thread, by `pid/tid`, with its name. */
type Threads = Map<string, { pid: number; name: string; ranNs: number }>;

/** What fio tells in `RUN.json` of what it did in one direction. */
export function readFio(folder: string, run: string, direction: 'read' | 'write'): FioSide {
  const text = readFileSync(join(folder, `${run}.json`), 'utf8');
  const [job] = (JSON.parse(text) as { jobs: FioJob[] }).jobs;
  assert(job !== undefined && job.error === 0, `fio failed in ${run}`);
  return job[direction];
}

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

/** How long the threads that `wanted` picks ran during a run, ns. */
export function ranNs(folder: string, run: string, wanted: (thread: Thread) => boolean): number {
  const before = readThreads(join(folder, `${run}.before`));
  const after = readThreads(join(folder, `${run}.after`));
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
