/**
 * Owns: the environment that long-lived processes get, and what the host is: systemd or not,
 * processors.
 * Runs in: the CLI and the controller, before they start a process.
 * Must not: pass on what the user's shell happens to hold: such a process outlives the shell.
 */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';

const KEPT = ['PATH', 'HOME', 'JOURNAL_STREAM'];
/** A sanitizer build (UBLK_NBD_BUILD=Debug) needs its runtime in every process. */
const KEPT_BY_SANITIZERS = ['LD_PRELOAD', 'ASAN_OPTIONS', 'UBSAN_OPTIONS', 'LSAN_OPTIONS'];
const FALLBACK_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Of one server process, never of what it starts. */
const OF_SERVER_PROCESS = 'UBLK_NBD_SERVER_';
/** Where it was launched from; the launcher sets it, and its `leave` goes back there. */
const OUTSIDE = 'UBLK_NBD_SERVER_OUTSIDE';

/** PATH, HOME and UBLK_NBD_*; nothing else. */
export function cleanEnvironment(from = process.env): Record<string, string> {
  const clean: Record<string, string> = { PATH: FALLBACK_PATH };
  const kept = from.UBLK_NBD_BUILD === 'Debug' ? [...KEPT, ...KEPT_BY_SANITIZERS] : KEPT;
  for (const [name, value] of Object.entries(from)) {
    const isOurs = name.startsWith('UBLK_NBD_') && !name.startsWith(OF_SERVER_PROCESS);
    if (value !== undefined && (kept.includes(name) || isOurs)) clean[name] = value;
  }
  return clean;
}

/**
 * What the AWS SDK reads, credentials among it: for server processes of a controller that the user
 * runs in the foreground, and nobody else.
 */
export function awsEnvironment(from = process.env): Record<string, string> {
  const isOf = ([name, value]: [string, string | undefined]): boolean =>
    name.startsWith('AWS_') && value !== undefined;
  return Object.fromEntries(Object.entries(from).filter(isOf)) as Record<string, string>;
}

/** What `ublk-nbd-helper leave` needs of a server process's environment. */
export function outsideOf(from: NodeJS.ProcessEnv): Record<string, string> {
  return { [OUTSIDE]: placeOutside(from) };
}

/** Mount namespace and root folder of whoever launched it; empty where the launcher did not. */
export function placeOutside(from: NodeJS.ProcessEnv): string {
  return from[OUTSIDE] ?? '';
}

/** True where systemd is the service manager (sd_booted(3)). */
export function runsSystemd(): boolean {
  return existsSync('/run/systemd/system');
}

export function processorCount(): number {
  return availableParallelism();
}

/** The compiled module beside this one, as an argument for node. */
export function modulePath(name: string): string {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return fileURLToPath(new URL(`./${name}.${extension}`, import.meta.url));
}
