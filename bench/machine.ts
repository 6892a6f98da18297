/**
 * Owns: one run of the test VM for a bench: the folder of its results, the plan in it, the status.
 * Runs in: the bench's process on the host; the work is done by a guest script in the VM.
 * Must not: measure anything outside the VM, where seconds mean little.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A run takes about 25 s of the host's time at worst; beyond this something hangs. */
const TIMEOUT_S = 3600;

/** The named ones; all of them where none is named. */
export function selected<T>(
  all: readonly T[],
  name: (one: T) => string,
  only: readonly string[],
): T[] {
  const chosen = all.filter((one) => only.includes(name(one)));
  return chosen.length > 0 ? chosen : [...all];
}

export interface GuestRun {
  /** Of the project, called with the folder of the results and `words`. */
  readonly script: string;
  readonly words: readonly string[];
  readonly kernel: string;
  readonly memory: string;
  /** What the script finds as `plan` in that folder. */
  readonly plan: string;
}

/** Returns the folder with the results; ends the process when a measurement failed. */
export function runGuest({ script, words, kernel, memory, plan }: GuestRun): string {
  const folder = join(process.cwd(), 'build', 'bench');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'plan'), plan);
  const runner = ['--kernel', kernel, '--icount', '--mem', memory, '--timeout', String(TIMEOUT_S)];
  const command = [...runner, '-w', folder, '--', script, folder, ...words];
  const { status, error } = spawnSync('test/vm/run', command, {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (error !== undefined) throw error;
  if (status !== 0) {
    process.stderr.write('bench: the measurements failed; what happened stands above\n');
    process.exit(status ?? 1);
  }
  return folder;
}
