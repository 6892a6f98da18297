/**
 * Owns: starting a server process through the native launcher, and knowing when it ends.
 * Runs in: the controller and `connect --foreground`.
 * Must not: tie it to this process: it outlives a controller that dies.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { cleanEnvironment, modulePath } from './environment.ts';
import { openChildLog } from './log.ts';
import { helperPath } from './native.ts';
import { identify, isAlive, killProcess, type ProcessIdentity, waitForExit } from './process.ts';

const ADOPTED_POLL_MS = 200;

/** A server process that this process started or adopted. */
export interface ServerProcess {
  readonly identity: ProcessIdentity;
  /** How it ended, as a sentence's end: `exited with status 1`, `was killed by SIGKILL`. */
  readonly ended: Promise<string>;
  kill(): void;
  /** True when it has ended within `timeoutMs`. */
  waitForExit(timeoutMs: number): Promise<boolean>;
}

export interface LaunchRequest {
  readonly token: string;
  /** The socket of the one that launches; the controller's own is tried beside it later. */
  readonly socketPath: string;
}

export type Launch = (request: LaunchRequest) => ServerProcess;

/**
 * Throws when the launcher cannot be started; that node or the addon fails shows as its early end.
 */
export const launchServerProcess: Launch = (request) => {
  const log = openChildLog();
  const argv = ['launch', '--', process.execPath, modulePath('server-main')];
  const child = spawn(helperPath(), argv, {
    cwd: '/',
    detached: true,
    env: {
      ...cleanEnvironment(),
      UBLK_NBD_SERVER_TOKEN: request.token,
      UBLK_NBD_SERVER_SOCKET: request.socketPath,
    },
    stdio: ['ignore', log.stdio, log.stdio],
  });
  log.close();
  return watchChild(child);
};

function watchChild(child: ChildProcess): ServerProcess {
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(`could not be started: ${error.message}`));
    child.once('exit', (status, signal) =>
      resolve(signal === null ? `exited with status ${status}` : `was killed by ${signal}`),
    );
  });
  // A child that could not be started has no pid, and one that is gone no start time: both are
  // never alive.
  const pid = child.pid ?? 0;
  const identity = (pid === 0 ? undefined : identify(pid)) ?? { pid, startTicks: '' };
  return serverProcess(identity, ended);
}

/** The server process of a device that an earlier controller started; no child of ours. */
export function adoptServerProcess(identity: ProcessIdentity): ServerProcess {
  const ended = new Promise<string>((resolve) => {
    const timer = setInterval(() => {
      if (isAlive(identity)) return;
      clearInterval(timer);
      // Its exit status went to the process that started it.
      resolve('ended');
    }, ADOPTED_POLL_MS);
    timer.unref();
  });
  return serverProcess(identity, ended);
}

function serverProcess(identity: ProcessIdentity, ended: Promise<string>): ServerProcess {
  return {
    identity,
    ended,
    kill: () => killProcess(identity),
    waitForExit: (timeoutMs) => waitForExit(identity, timeoutMs),
  };
}
