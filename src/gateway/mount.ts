/**
 * Owns: `mount TARGET DIR` and `umount DIR`: connect, find the partition, mount(8), and the way
 * back.
 * Runs in: the CLI.
 * Must not: leave a device behind when the mount failed, or disconnect a device that is not ours.
 */
import { existsSync, realpathSync, statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { asGatewayError, GatewayError, oneLine } from '../protocols/errors.ts';
import { unlessAborted } from '../protocols/unless-aborted.ts';
import { callController } from './client.ts';
import { findPartition } from './device-node.ts';
import { DEFAULT_DRAIN_TIMEOUT_MS, dataLost, whenStalled } from './drain.ts';
import type { ConnectOptions, DeviceView } from './messages.ts';
import { type Mount, mountsAt } from './mount-table.ts';
import { runTool, type ToolResult } from './tool.ts';

export interface MountRequest {
  readonly options: ConnectOptions;
  readonly directory: string;
  /** Number of the partition, 1 and up; undefined = the whole device. */
  readonly partition?: number;
  /** What `mount -o` takes. */
  readonly mountOptions?: string;
}

/** The driver looks for partitions after START_DEV has returned (Linux 7). */
const PARTITION_TIMEOUT_MS = 5_000;
const PARTITION_POLL_MS = 20;
const MOUNT_TIMEOUT_MS = 120_000;
/** As long as something is written back it may go on. */
const UNMOUNT_TIMEOUT_MS = 86_400_000;
const BUSY_POLL_MS = 250;
const ABORTED_AFTER_MOUNT_MS = 10_000;

/** Connects and mounts; on failure or abort neither the mount nor the device remains. */
export async function mountTarget(
  request: MountRequest,
  signal: AbortSignal,
  onProgress?: (text: string) => void,
): Promise<DeviceView> {
  const directory = mountPoint(request.directory);
  const device = await callController('connect', request.options, { signal, onProgress });
  try {
    const source = await sourceOf(device, request.partition, signal);
    await mountSource(source, directory, device.readOnly, request.mountOptions, signal);
    return device;
  } catch (thrown) {
    const error = asGatewayError(thrown);
    try {
      await callController('disconnect', { device: String(device.id), force: true });
    } catch (left) {
      const why = asGatewayError(left).message;
      const text = `${error.message}; ${device.path} is still there: ${why}`;
      throw new GatewayError(error.code, text, { hint: `run: ublk-nbd disconnect ${device.id}` });
    }
    throw error;
  }
}

/**
 * Unmounts what is mounted at `directory` and disconnects the device behind it. A backend that
 * takes nothing for so long is not waited for: UNBD_DATA_LOST says that both are gone all the same.
 */
export async function umountDirectory(
  directory: string,
  drainTimeoutMs: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  const path = mountPoint(directory);
  const source = mountsAt(path).at(-1);
  if (source === undefined) {
    throw new GatewayError('UNBD_MOUNT_FAILED', `nothing is mounted at ${path}`, {
      hint: 'see: findmnt',
    });
  }
  const id = deviceBehind(source);
  const devices = await callController('list', { verbose: false });
  const device = devices.find((one) => one.id === id);
  if (device === undefined) {
    const text = `${path} is not on a device of ublk-nbd`;
    throw new GatewayError('UNBD_MOUNT_FAILED', text, { hint: `use: umount ${path}` });
  }
  const limitMs = drainTimeoutMs ?? DEFAULT_DRAIN_TIMEOUT_MS;
  const unmounted = await unmountInTime(path, device.id, limitMs, signal);
  if (unmounted === 'stalled') throw await giveUp(device, path, limitMs);
  const { status, stderr } = unmounted;
  if (status !== 0) {
    const text = `umount ${path} failed: ${oneLine(stderr)}`;
    throw new GatewayError('UNBD_MOUNT_FAILED', text, {
      hint: `see who uses it: fuser -vm ${path}`,
    });
  }
  await disconnectUnmounted(device, drainTimeoutMs, limitMs, signal);
}

/**
 * A server process that starts at this moment has a copy of the mount until its launcher drops it,
 * and then it is the launcher that unmounts the filesystem. Nobody sees that as a holder.
 */
async function disconnectUnmounted(
  device: DeviceView,
  drainTimeoutMs: number | undefined,
  patienceMs: number,
  signal: AbortSignal,
): Promise<void> {
  const argument = { device: device.path, force: false, drainTimeoutMs };
  for (let waitedMs = 0; ; waitedMs += BUSY_POLL_MS) {
    try {
      await callController('disconnect', argument, { signal });
      return;
    } catch (thrown) {
      const { code, message } = asGatewayError(thrown);
      const isUnseen = code === 'UNBD_DEVICE_BUSY' && message === `${device.path} is in use`;
      if (!isUnseen || waitedMs >= patienceMs || signal.aborted) throw thrown;
      await delay(BUSY_POLL_MS);
    }
  }
}

/** umount(8) writes back first, and cannot be ended while it waits for the backend. */
async function unmountInTime(
  path: string,
  id: number,
  limitMs: number,
  signal: AbortSignal,
): Promise<ToolResult | 'stalled'> {
  let clock: NodeJS.Timeout | undefined;
  const stalled = new Promise<'stalled'>((resolve) => {
    clock = whenStalled(id, limitMs, () => resolve('stalled'));
  });
  const unmounting = runTool('umount', [path], { timeoutMs: UNMOUNT_TIMEOUT_MS, signal });
  try {
    return await unlessAborted(Promise.race([unmounting, stalled]), signal);
  } finally {
    clearInterval(clock);
  }
}

/** The end of the device's requests is that of umount(8), too. */
async function giveUp(device: DeviceView, path: string, limitMs: number): Promise<GatewayError> {
  await callController('disconnect', { device: device.path, force: true, drainTimeoutMs: 0 });
  const text = `${device.path} was removed from under ${path}: its backend took nothing for `;
  return dataLost(`${text}${limitMs / 1000} s, so what was not written is lost`);
}

function mountPoint(directory: string): string {
  try {
    const path = realpathSync(directory);
    if (statSync(path).isDirectory()) return path;
  } catch {
    // Reported below, as what is no directory.
  }
  throw new GatewayError('UNBD_MOUNT_FAILED', `${directory} is not a directory`, {
    hint: `make it with: mkdir -p ${directory}`,
  });
}

async function sourceOf(
  device: DeviceView,
  partition: number | undefined,
  signal: AbortSignal,
): Promise<string> {
  if (partition === undefined) return device.path;
  const deadline = Date.now() + PARTITION_TIMEOUT_MS;
  for (;;) {
    const path = await findPartition(device.id, partition);
    if (path !== undefined) return path;
    if (signal.aborted) throw new GatewayError('UNBD_INTERRUPTED', 'interrupted');
    if (Date.now() >= deadline) {
      throw new GatewayError('UNBD_MOUNT_FAILED', `${device.path} has no partition ${partition}`, {
        hint: `look at it with: ublk-nbd connect TARGET, then lsblk ${device.path}`,
      });
    }
    await delay(PARTITION_POLL_MS);
  }
}

async function mountSource(
  source: string,
  directory: string,
  readOnly: boolean,
  options: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  const asked = [...(readOnly ? ['ro'] : []), ...(options === undefined ? [] : [options])];
  const argv = [...(asked.length === 0 ? [] : ['-o', asked.join(',')]), '--', source, directory];
  const { status, stderr } = await runTool('mount', argv, { timeoutMs: MOUNT_TIMEOUT_MS, signal });
  if (signal.aborted) {
    await runTool('umount', [directory], { timeoutMs: ABORTED_AFTER_MOUNT_MS });
    throw new GatewayError('UNBD_INTERRUPTED', 'interrupted');
  }
  if (status === 0) return;
  const text = `mount of ${source} at ${directory} failed: ${oneLine(stderr)}`;
  throw new GatewayError('UNBD_MOUNT_FAILED', text, {
    hint: 'look at the image with: blkid, or try --partition or -o',
  });
}

/** N of the /dev/ublkbN that a mount is on, or on a partition of. */
function deviceBehind(mount: Mount): number | undefined {
  // Btrfs mounts have a device number of their own; what was mounted stands in the table all the
  // same.
  const named = /^\/dev\/ublkb(\d+)(p\d+)?$/.exec(mount.source)?.[1];
  if (named !== undefined) return Number(named);
  const path = `/sys/dev/block/${mount.major}:${mount.minor}`;
  const found = existsSync(path) ? /\/block\/ublkb(\d+)(\/|$)/.exec(realpathSync(path)) : null;
  return found === null ? undefined : Number(found[1]);
}
