/**
 * Owns: the removal of what dead processes left in the run directory.
 * Runs in: the controller, when it begins and when it ends.
 * Must not: remove a record, what a living process listens on, or what a dead one had to say.
 */
import { readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { identify } from './process.ts';
import { logDir, runDir } from './run-dir.ts';

export function sweepRunDir(): void {
  for (const name of readdirSync(runDir())) {
    const pid = /^(?:foreground|upgrade)-(\d+)\.sock$/.exec(name)?.[1];
    if (pid !== undefined && identify(Number(pid)) === undefined) remove(runDir(), name);
  }
  // Of a spare, which has no record. An empty one is of no use, whoever may still hold it open.
  for (const name of readdirSync(logDir())) {
    const size = statSync(join(logDir(), name), { throwIfNoEntry: false })?.size;
    if (name.endsWith('.stderr') && size === 0) remove(logDir(), name);
  }
}

function remove(folder: string, name: string): void {
  rmSync(join(folder, name), { force: true });
}
