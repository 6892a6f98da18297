/**
 * Owns: `mount TARGET DIR` and `umount DIR`: connect, find the partition, mount(8), and the way
 * back.
 * Runs in: the CLI.
 * Must not: leave a device behind when the mount failed, or disconnect a device that is not ours.
 */
import { existsSync, realpathSync, statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { asGatewayError, GatewayError, oneLine } from '../protocols/errors.ts';
import { callController } from './client.ts';
import { findPartition } from './device-node.ts';
import type { ConnectOptions, DeviceView } from './messages.ts';
import { type Mount, mountsAt } from './mount-table.ts';
import { runTool } from './tool.ts';

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
const ABORTED_AFTER_MOUNT_MS = 10_000;

/** Connects and mounts; on failure or abort neither the mount nor the device remains. */
export async function mountTarget(request: MountRequest, signal: AbortSignal): Promise<DeviceView> {
  const directory = mountPoint(request.directory);
  const device = await callController('connect', request.options, { signal });
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

/** Unmounts what is mounted at `directory` and disconnects the device behind it. */
export async function umountDirectory(directory: string): Promise<void> {
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
  const { status, stderr } = await runTool('umount', [path], { timeoutMs: MOUNT_TIMEOUT_MS });
  if (status !== 0) {
    const text = `umount ${path} failed: ${oneLine(stderr)}`;
    throw new GatewayError('UNBD_MOUNT_FAILED', text, {
      hint: `see who uses it: fuser -vm ${path}`,
    });
  }
  await callController('disconnect', { device: String(device.id), force: false });
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
