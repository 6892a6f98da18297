/**
 * Owns: what a failed control command means to the user, and what mends it.
 * Runs in: the controller, `connect --foreground`, and for `doctor` the CLI; pure.
 * Must not: repeat an errno where the cause can be named.
 */
import { type ErrorCode, GatewayError } from '../protocols/errors.ts';
import type { HelperAnswer } from './control-helper.ts';

export const CONTAINER_FLAGS =
  'give the container --privileged, or --device /dev/ublk-control ' +
  "--device-cgroup-rule 'c *:* rwm' --device-cgroup-rule 'b *:* rwm' " +
  '--cap-add SYS_ADMIN --cap-add MKNOD';

/** `hasDriver`: the driver is there, whatever /dev shows (a container has a /dev of its own). */
export function controlError(
  command: string,
  answer: HelperAnswer,
  hasDriver: boolean,
): GatewayError {
  const errno = String(answer.errno ?? 'EIO');
  const step = String(answer.step ?? command);
  const known = openError(step, errno, hasDriver) ?? commandError(step, errno);
  if (known !== undefined) return known;
  const text = typeof answer.text === 'string' ? answer.text : `${step}: ${errno}`;
  return new GatewayError('UNBD_CONTROL_FAILED', `the driver refused: ${text}`, {
    hint: 'look at the kernel log: dmesg',
  });
}

function openError(step: string, errno: string, hasDriver: boolean): GatewayError | undefined {
  if (step === 'ring') {
    return refused('UNBD_IO_URING_DISABLED', `io_uring is disabled here (${errno})`, [
      'run: sysctl kernel.io_uring_disabled=0',
      'in a container allow io_uring in its seccomp profile',
    ]);
  }
  if (step !== 'open') return undefined;
  if (errno === 'EACCES' || errno === 'EPERM') {
    return refused('UNBD_NO_PERMISSION', 'no permission for /dev/ublk-control', [CONTAINER_FLAGS]);
  }
  return hasDriver
    ? refused('UNBD_NO_DEVICE_NODE', 'there is no /dev/ublk-control', [CONTAINER_FLAGS])
    : refused('UNBD_NO_DRIVER', 'the ublk driver is not loaded', ['run: modprobe ublk_drv']);
}

function commandError(step: string, errno: string): GatewayError | undefined {
  if (errno === 'EPERM' || errno === 'EACCES') {
    const text = `${step} is not permitted: CAP_SYS_ADMIN is missing`;
    return refused('UNBD_NO_PERMISSION', text, [CONTAINER_FLAGS]);
  }
  if (step === 'features') {
    const text = `the ublk driver of this kernel is too old (${errno})`;
    return refused('UNBD_KERNEL_TOO_OLD', text, ['boot Linux 6.12 or newer']);
  }
  if (errno === 'EBUSY') return refused('UNBD_DEVICE_BUSY', 'the device is in use', []);
  if (errno === 'ENODEV') {
    return refused('UNBD_DEVICE_ABSENT', 'the driver has no such device', ['see: ublk-nbd list']);
  }
  return undefined;
}

function refused(code: ErrorCode, text: string, hints: readonly string[]): GatewayError {
  return new GatewayError(code, text, hints.length === 0 ? {} : { hint: hints.join('; ') });
}
