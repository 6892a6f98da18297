/**
 * Owns: the lock that only one controller of a run directory holds.
 * Runs in: the controller.
 * Must not: go stale: the kernel drops it with the process, whatever ended it.
 */
import { spawnSync } from 'node:child_process';
import { openSync } from 'node:fs';
import { GatewayError } from '../protocols/errors.ts';
import { controllerLock } from './run-dir.ts';

/**
 * False when another process has it. flock(2) belongs to the open file, which flock(1) shares with
 * us and we keep; the descriptor is not inherited by what we start (libuv opens with O_CLOEXEC).
 */
export function lockController(): boolean {
  const file = openSync(controllerLock(), 'a', 0o600);
  const { status, error } = spawnSync('flock', ['--exclusive', '--nonblock', '3'], {
    stdio: ['ignore', 'ignore', 'ignore', file],
  });
  if (error !== undefined) {
    throw new GatewayError('UNBD_CONTROLLER', `cannot run flock(1): ${error.message}`, {
      hint: 'install util-linux',
      cause: error,
    });
  }
  return status === 0;
}
