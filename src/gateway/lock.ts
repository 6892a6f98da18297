/**
 * Owns: the locks of a run directory: of its one controller, and of the one who upgrades.
 * Runs in: the controller, and in the CLI of `upgrade`.
 * Must not: go stale: the kernel drops it with the process, whatever ended it.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { GatewayError } from '../protocols/errors.ts';

/**
 * Undefined when another process has it, else what gives it back. flock(2) belongs to the open
 * file, which flock(1) shares with us and we keep; the descriptor is not inherited by what we start
 * (libuv opens with O_CLOEXEC).
 */
export function lock(path: string): (() => void) | undefined {
  const file = openSync(path, 'a', 0o600);
  const { status, error } = spawnSync('flock', ['--exclusive', '--nonblock', '3'], {
    stdio: ['ignore', 'ignore', 'ignore', file],
  });
  if (error !== undefined) {
    throw new GatewayError('UNBD_CONTROLLER', `cannot run flock(1): ${error.message}`, {
      hint: 'install util-linux',
      cause: error,
    });
  }
  if (status === 0) return () => closeSync(file);
  closeSync(file);
  return undefined;
}
