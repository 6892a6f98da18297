/**
 * Owns: running fio on a device and reading its verdict.
 * Runs in: device test processes; fio is a program of its own.
 * Must not: let a job end without a look at its error count.
 */
import assert from 'node:assert/strict';
import { describe, type Outcome, run } from './process.ts';

export interface FioJob {
  readonly path: string;
  readonly options: Readonly<Record<string, string | number>>;
}

export interface FioResult {
  readonly outcome: Outcome;
  readonly totalErrors: number;
  readonly readCount: number;
  readonly writeCount: number;
}

interface FioJson {
  readonly jobs: readonly {
    readonly error: number;
    readonly total_err?: number;
    readonly read: { readonly total_ios: number };
    readonly write: { readonly total_ios: number };
  }[];
}

export async function fio(job: FioJob, timeoutMs = 240_000): Promise<FioResult> {
  const outcome = await run(fioWords(job), { timeoutMs });
  // fio prints warnings in front of its JSON.
  const start = outcome.stdout.indexOf('{\n');
  const parsed = start < 0 ? undefined : (JSON.parse(outcome.stdout.slice(start)) as FioJson);
  assert(parsed, describe(outcome));
  const sum = (of: (one: FioJson['jobs'][number]) => number): number =>
    parsed.jobs.reduce((total, one) => total + of(one), 0);
  return {
    outcome,
    totalErrors: sum((one) => one.error + (one.total_err ?? 0)),
    readCount: sum((one) => one.read.total_ios),
    writeCount: sum((one) => one.write.total_ios),
  };
}

/** As fio(), and no I/O may fail, nor be wrong where the job verifies. */
export async function assertFioSucceeds(job: FioJob, timeoutMs?: number): Promise<FioResult> {
  const result = await fio(job, timeoutMs);
  assert.equal(result.outcome.status, 0, describe(result.outcome));
  assert.equal(result.totalErrors, 0, describe(result.outcome));
  return result;
}

/** Of what writeChecked() writes: every 4 KiB carry their checksum and their own offset. */
const CHECKED = { verify: 'crc32c', verify_interval: '4k' };

/** Fills a file with what readChecked() verifies. */
export async function writeChecked(path: string, size: string): Promise<void> {
  const options = { ...CHECKED, size, rw: 'write', bs: '128k', do_verify: 0, direct: 0 };
  await assertFioSucceeds({ path, options });
}

/** Reads what writeChecked() has written; a wrong byte, or one of another place, is a failure. */
export async function readChecked(
  path: string,
  options: Readonly<Record<string, string | number>>,
  timeoutMs?: number,
): Promise<void> {
  const strict = { ...CHECKED, verify_fatal: 1, ...options };
  const { readCount } = await assertFioSucceeds({ path, options: strict }, timeoutMs);
  assert(readCount > 0, 'fio read');
}

export function fioWords(job: FioJob): string[] {
  const options = { ioengine: 'io_uring', direct: 1, thread: 1, ...job.options };
  const words = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
  return ['fio', '--name=job', '--output-format=json', `--filename=${job.path}`, ...words];
}

/** Writes and reads back at random in sizes of 512 B to 1 MiB; every block carries its checksum. */
export async function fioVerify(
  path: string,
  options: Readonly<Record<string, string | number>>,
): Promise<FioResult> {
  const mixed = { rw: 'randrw', bsrange: '512-1m', bs_unaligned: 0, verify: 'crc32c' };
  const strict = { verify_fatal: 1, do_verify: 1, norandommap: 0, serialize_overlap: 1 };
  const result = await assertFioSucceeds({ path, options: { ...mixed, ...strict, ...options } });
  assert(result.writeCount > 0 && result.readCount > 0, 'fio wrote and read');
  return result;
}
