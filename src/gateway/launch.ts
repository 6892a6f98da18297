/**
 * Owns: starting a server process through the native launcher, and knowing when it ends.
 * Runs in: the controller and `connect --foreground`.
 * Must not: tie it to this process: it outlives a controller that dies.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cleanEnvironment, modulePath } from './environment.ts';
import { openChildLog, log as writeLog } from './log.ts';
import { helperPath } from './native.ts';
import { identify, isAlive, killProcess, type ProcessIdentity, waitForExit } from './process.ts';
import { logDir } from './run-dir.ts';

const ADOPTED_POLL_MS = 200;
/** A sanitizer's report is longer; its head tells most. */
const MAXIMUM_LAST_WORDS = 40;
/** The line that belongs into a message. */
const TELLING = /cannot|invariant|ERROR:/;
/** What only a process says that ends itself. */
const FATAL_WORDS = /invariant|ERROR:/;

/** Otherwise node tells of what is thrown where the addon calls, and goes on without it. */
const ABORT_ON_ANY = '--force-node-api-uncaught-exceptions-policy=true';

/**
 * glibc registers each thread for restartable sequences (rseq(2)). Each time that the kernel then
 * switches to the thread it writes down where that is, and nothing in a server process asks.
 */
const NO_RESTARTABLE_SEQUENCES = { GLIBC_TUNABLES: 'glibc.pthread.rseq=0' };

/** Signals that nobody sends to himself. */
const FROM_OUTSIDE: readonly string[] = ['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP'];

/** How a server process ended. */
export interface Ending {
  /** As a sentence's end: `exited with status 1`, `was killed by SIGKILL`. */
  readonly how: string;
  /** By its own fault. A signal that ends processes comes from outside; a regular end is none. */
  readonly isCrash: boolean;
}

/** A server process that this process started or adopted. */
export interface ServerProcess {
  readonly identity: ProcessIdentity;
  readonly ended: Promise<Ending>;
  /** `fault`: what it did to deserve it, as a sentence's end; the ending is then a crash. */
  kill(fault?: string): void;
  /** True when it has ended within `timeoutMs`. */
  waitForExit(timeoutMs: number): Promise<boolean>;
}

export interface LaunchRequest {
  readonly token: string;
  /** The socket of the one that launches; the controller's own is tried beside it later. */
  readonly socketPath: string;
  /** Launched before it is needed: without a controller it is not needed any more. */
  readonly isSpare: boolean;
}

export type Launch = (request: LaunchRequest) => ServerProcess;

/**
 * Throws when the launcher cannot be started; that node or the addon fails shows as its early end.
 * `more` goes to its environment.
 */
export function launchServerProcess(
  { token, socketPath, isSpare }: LaunchRequest,
  more: Readonly<Record<string, string>> = {},
): ServerProcess {
  const log = openChildLog();
  const stderr = openSync(lastWordsPath(token), 'w', 0o600);
  const argv = ['launch', '--', process.execPath, ABORT_ON_ANY, modulePath('server-main')];
  const child = spawn(helperPath(), argv, {
    cwd: '/',
    detached: true,
    env: {
      ...cleanEnvironment(),
      ...NO_RESTARTABLE_SEQUENCES,
      ...more,
      UBLK_NBD_SERVER_TOKEN: token,
      UBLK_NBD_SERVER_SOCKET: socketPath,
      ...(isSpare ? { UBLK_NBD_SERVER_SPARE: '1' } : {}),
    },
    stdio: ['ignore', log.stdio, stderr],
  });
  log.close();
  closeSync(stderr);
  const ended = new Promise<Ending>((resolve) => {
    child.once('error', ({ message }) =>
      resolve({ how: `could not be started: ${message}`, isCrash: true }),
    );
    child.once('exit', (status, signal) =>
      resolve(
        signal === null
          ? { how: `exited with status ${status}`, isCrash: status !== 0 }
          : { how: `was killed by ${signal}`, isCrash: !FROM_OUTSIDE.includes(signal) },
      ),
    );
  });
  // A child that could not be started has no pid, and one that is gone no start time: both are
  // never alive.
  const pid = child.pid ?? 0;
  const identity = (pid === 0 ? undefined : identify(pid)) ?? { pid, startTicks: '' };
  return serverProcess(identity, token, ended);
}

/** The server process of a device that an earlier controller started; no child of ours. */
export function adoptServerProcess(identity: ProcessIdentity, token: string): ServerProcess {
  const ended = new Promise<Ending>((resolve) => {
    const timer = setInterval(() => {
      if (isAlive(identity)) return;
      clearInterval(timer);
      // Its exit status went to the process that started it.
      resolve({ how: 'ended', isCrash: false });
    }, ADOPTED_POLL_MS);
    timer.unref();
  });
  return serverProcess(identity, token, ended);
}

function serverProcess(
  identity: ProcessIdentity,
  token: string,
  ended: Promise<Ending>,
): ServerProcess {
  let fault: string | undefined;
  return {
    identity,
    ended: ended.then(({ how, isCrash }) => {
      const lines = takeLastWords(token);
      for (const line of lines) writeLog('error', undefined, `process ${identity.pid}: ${line}`);
      if (fault !== undefined) return { how: fault, isCrash: true };
      const telling = lines.find((line) => TELLING.test(line)) ?? lines.at(-1);
      if (telling === undefined) return { how, isCrash };
      // Of one that was adopted the last words are all that is known.
      return { how: `${how}: ${telling}`, isCrash: isCrash || FATAL_WORDS.test(telling) };
    }),
    kill: (because) => {
      fault = because;
      killProcess(identity);
    },
    waitForExit: (timeoutMs) => waitForExit(identity, timeoutMs),
  };
}

/** What the launcher or a failed invariant wrote to stderr; it does not wait for a controller. */
function lastWordsPath(token: string): string {
  return join(logDir(), `${token}.stderr`);
}

/** Its lines; the file is gone then. */
export function takeLastWords(token: string): readonly string[] {
  try {
    const text = readFileSync(lastWordsPath(token), 'utf8');
    rmSync(lastWordsPath(token));
    return text
      .split('\n')
      .filter((line) => line.trim() !== '')
      .slice(0, MAXIMUM_LAST_WORDS);
  } catch {
    return [];
  }
}
