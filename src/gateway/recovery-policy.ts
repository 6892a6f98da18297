/**
 * Owns: what a device can do about the death of its server process: the driver's flags for it, what
 * the kernel's age changes, and when dying again and again has to end.
 * Runs in: the controller and `connect --foreground`; pure.
 * Must not: act; recover.ts does.
 */
import type { ObjectTarget, Target } from '../protocols/adapter.ts';
import { GatewayError } from '../protocols/errors.ts';
import { isObjectTarget } from '../protocols/object-target.ts';
import type { ConnectOptions } from './messages.ts';

/** Flags of ADD_DEV, by bit (linux/ublk_cmd.h). */
export const FEATURE_USER_RECOVERY = 1n << 3n;
export const FEATURE_USER_RECOVERY_REISSUE = 1n << 4n;
export const FEATURE_UPDATE_SIZE = 1n << 10n;
export const FEATURE_QUIESCE = 1n << 12n;

/** Whatever a successor serves of such a target, it has checked against its predecessor's. */
export type GatedTarget = Extract<Target, { kind: 'nbd' }> | ObjectTarget;

export function hasIdentityGate(target: Target): target is GatedTarget {
  return target.kind === 'nbd' || isObjectTarget(target);
}

/** As many crashes in as long a time end in FATAL: the cause is with us, or in a request. */
const CRASH_LIMIT = 5;
const CRASH_WINDOW_MS = 60_000;

/**
 * The recovery flags of a new device. Of `memory:` the server process is the content, so that a
 * successor would serve zeroes: such a device fails with it.
 */
export function recoveryFlags(options: ConnectOptions, features: bigint): bigint {
  const { target, onCrash, resendWrites } = options;
  const isLostWithIt = target.kind === 'memory';
  if (isLostWithIt && onCrash === 'recover') {
    throw new GatewayError('UNBD_USAGE', 'memory: is lost with its server process', {
      hint: 'leave out --on-crash, or take a file: on a tmpfs',
    });
  }
  const sizeFlag = features & FEATURE_UPDATE_SIZE;
  if (onCrash === 'fail' || isLostWithIt) return sizeFlag;
  const offered = features & FEATURE_QUIESCE;
  const reissue = resendWrites === false ? 0n : FEATURE_USER_RECOVERY_REISSUE;
  return sizeFlag | FEATURE_USER_RECOVERY | reissue | offered;
}

/** Of the flags that ADD_DEV handed back; undefined in a record that is older than they are. */
export function isRecoverable(flags: bigint | undefined): boolean {
  return ((flags ?? 0n) & FEATURE_USER_RECOVERY) !== 0n;
}

/** Whether a successor gets the requests that were in flight; else they end with EIO. */
export function isReissued(flags: bigint | undefined): boolean {
  return isRecoverable(flags) && ((flags ?? 0n) & FEATURE_USER_RECOVERY_REISSUE) !== 0n;
}

/**
 * False on kernels that tell the death of a server process by the timer of its requests only, and
 * whose START_USER_RECOVERY must not be sent twice (it resets the queues, and without a FETCH in
 * between there is nothing to reset). Both were mended in Linux 6.15 with the release of the char
 * device, without a bit of their own; QUIESCE came with 6.16 and stands for it. 6.15 is treated as
 * old, which harms nothing.
 */
export function hasModernRecovery(features: bigint): boolean {
  return (features & FEATURE_QUIESCE) !== 0n;
}

/** The crashes that still count, with the one that happened now. */
export function crashesWith(earlier: readonly number[], nowMs: number): readonly number[] {
  return [...earlier.filter((at) => nowMs - at < CRASH_WINDOW_MS), nowMs].slice(-CRASH_LIMIT);
}

export function isCrashLoop(crashesAtMs: readonly number[]): boolean {
  return crashesAtMs.length >= CRASH_LIMIT;
}
