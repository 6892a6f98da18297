/**
 * Owns: the run directory: where it is, that only its owner can enter it, and the paths inside.
 * Runs in: the CLI, the controller and server processes.
 * Must not: trust a directory that another user may write to; the sockets in it are the door to the
 * devices.
 */
import { chmodSync, lstatSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { GatewayError } from '../protocols/errors.ts';

const DEFAULT_RUN_DIR = '/run/ublk-nbd';

/** sun_path holds 107 bytes; the longest name that we put behind the directory has 28. */
const MAXIMUM_PATH_BYTES = 78;

export function runDir(): string {
  const asked = process.env.UBLK_NBD_RUN_DIR;
  return asked === undefined || asked === '' ? DEFAULT_RUN_DIR : asked;
}

export const controllerSocket = (): string => join(runDir(), 'controller.sock');
export const controllerLock = (): string => join(runDir(), 'controller.lock');
export const upgradeLock = (): string => join(runDir(), 'upgrade.lock');
/** Of the rehearsal before an upgrade. */
export const upgradeSocket = (pid: number): string => join(runDir(), `upgrade-${pid}.sock`);
export const foregroundSocket = (pid: number): string => join(runDir(), `foreground-${pid}.sock`);
export const devicesDir = (): string => join(runDir(), 'devices');
/** What the device's backend has acknowledged and not made durable. */
export const unflushedLogPath = (id: number): string => join(runDir(), 'unflushed', String(id));
export const logDir = (): string => join(runDir(), 'log');

/** Throws UNBD_NO_PERMISSION with the cure unless we are root: only root may drive the driver. */
export function requireRoot(): void {
  if (process.geteuid?.() === 0) return;
  throw new GatewayError('UNBD_NO_PERMISSION', 'block devices can be attached by root only', {
    hint: 'run the same command with sudo',
  });
}

/**
 * Makes the run directory and what belongs in it, 0700, and refuses one that is not ours alone.
 * Bounded work, synchronous: it runs once, before a process does anything else.
 */
export function prepareRunDir(path = runDir()): void {
  if (!path.startsWith('/') || Buffer.byteLength(path) > MAXIMUM_PATH_BYTES) {
    throw new GatewayError('UNBD_USAGE', `the run directory '${path}' cannot be used`, {
      hint: `set UBLK_NBD_RUN_DIR to an absolute path of at most ${MAXIMUM_PATH_BYTES} bytes`,
    });
  }
  makePrivate(path);
  makePrivate(join(path, 'devices'));
  makePrivate(join(path, 'log'));
  makePrivate(join(path, 'unflushed'));
}

function makePrivate(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new GatewayError('UNBD_NO_PERMISSION', `cannot make the run directory ${path}`, {
      hint: 'run with sudo, or set UBLK_NBD_RUN_DIR to a directory that can be written',
      cause,
    });
  }
  const status = lstatSync(path);
  const writable = (status.mode & 0o022) !== 0;
  if (!status.isDirectory() || status.uid !== process.geteuid?.() || writable) {
    throw new GatewayError('UNBD_NO_PERMISSION', `${path} is not a directory of this user alone`, {
      hint: `run: chown root: ${path} && chmod 700 ${path}, or set UBLK_NBD_RUN_DIR to another`,
    });
  }
  if ((status.mode & 0o077) !== 0) chmodSync(path, 0o700);
}
