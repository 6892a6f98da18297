/**
 * Owns: the removal of what dead processes left in the run directory.
 * Runs in: the controller, when it begins and when it ends.
 * Must not: remove a record, what a living process listens on, or what a dead one had to say before
 * it is in the log.
 */
import { readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { takeLastWords } from './launch.ts';
import { log } from './log.ts';
import { identify } from './process.ts';
import { Registry } from './registry.ts';
import { devicesDir, logDir, runDir } from './run-dir.ts';

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

/** At the end: no spare of ours is left, so that the rest of such files is that of dead ones. */
export function tellLastWordsOfSpares(): void {
  const { records, corrupt } = new Registry(devicesDir()).readAll();
  for (const { id, path } of corrupt) log('error', id, `a corrupt record is put aside as ${path}`);
  const tokens = new Set(records.map(({ token }) => token));
  for (const name of readdirSync(logDir())) {
    const token = /^(.*)\.stderr$/.exec(name)?.[1];
    if (token === undefined || tokens.has(token)) continue;
    for (const line of takeLastWords(token)) log('warning', undefined, `a spare ended: ${line}`);
  }
}

function remove(folder: string, name: string): void {
  rmSync(join(folder, name), { force: true });
}
