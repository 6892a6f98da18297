/**
 * Owns: the device nodes: waiting for udev or devtmpfs, making them where neither does
 * (containers), the stable link.
 * Runs in: the controller and `connect --foreground`.
 * Must not: remove a node that we did not make, or point a name of someone else's elsewhere.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { chmod, mkdir, readlink, rename, rm, symlink } from 'node:fs/promises';
import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { GatewayError, oneLine } from '../protocols/errors.ts';
import { CONTAINER_FLAGS } from './control-error.ts';
import { blockPath, charPath, LINK_FOLDER, linkPath } from './device-name.ts';
import { findHolders, type Holders } from './holders.ts';
import { readMounts } from './mount-table.ts';
import { entriesIfThere, readIfThere } from './sysfs.ts';
import { runTool } from './tool.ts';

const NODE_TIMEOUT_MS = 5_000;
/** A partition table takes a few reads; a backend may be slow, but not for ever. */
const SCAN_TIMEOUT_MS = 20_000;
const POLL_MS = 10;
/** How long devtmpfs or udev may take before we make the node ourselves. */
const PATIENCE_MS = 2_000;

interface DeviceNumber {
  readonly major: number;
  readonly minor: number;
}

/** What the life cycle of a device needs of /dev; tests give their own. */
export interface DeviceNodes {
  /** Each resolves with the paths of nodes that it made, when the node is there. */
  ensureChar(id: number): Promise<readonly string[]>;
  ensureBlock(id: number): Promise<readonly string[]>;
  /**
   * Tells the kernel the disk's partitions; resolves with what prevented it, in one line. Throws
   * UNBD_BACKEND_TIMEOUT.
   */
  scanPartitions(id: number): Promise<string | undefined>;
  /** Opens the disk and closes it. Throws UNBD_BACKEND_TIMEOUT or UNBD_NO_DEVICE_NODE. */
  prove(id: number): Promise<void>;
  remove(paths: readonly string[]): Promise<void>;
  makeLink(name: string, id: number): Promise<void>;
  removeLink(name: string, id: number): Promise<void>;
  findHolders(id: number): Holders;
}

export const deviceNodes: DeviceNodes = {
  ensureChar,
  ensureBlock,
  scanPartitions,
  prove,
  remove,
  makeLink,
  removeLink,
  findHolders,
};

async function ensureChar(id: number): Promise<readonly string[]> {
  const path = charPath(id);
  const number = await waitFor(() => readNumber(`/sys/class/ublk-char/ublkc${id}/dev`), path);
  return ensureNode(path, 'c', number);
}

/** The disk and, where nobody else makes them, the partitions that are known by now. */
async function ensureBlock(id: number): Promise<readonly string[]> {
  const path = blockPath(id);
  const disk = await waitFor(() => readNumber(`/sys/block/ublkb${id}/dev`), path);
  const made = [...(await ensureNode(path, 'b', disk))];
  if (hasDevtmpfs()) return made;
  for (const partition of partitionsOf(id)) {
    const found = readNumber(`/sys/block/ublkb${id}/${partition}/dev`);
    if (found !== undefined) made.push(...(await ensureNode(`/dev/${partition}`, 'b', found)));
  }
  return made;
}

/** As blockdev --rereadpt, which such a kernel refuses once a scan was suppressed. */
async function scanPartitions(id: number): Promise<string | undefined> {
  const path = blockPath(id);
  const { status, stderr } = await runTool('partx', ['--add', path], {
    timeoutMs: SCAN_TIMEOUT_MS,
  });
  if (status === 124) throw noAnswer(path);
  if (status === 0 || stderr.includes('failed to read partition table')) return undefined;
  const reason = oneLine(stderr);
  return `no partitions of ${path} were looked for: ${reason}; do it by: partx --add ${path}`;
}

/** In a process that can be left behind: as long as the kernel looks for partitions it waits. */
async function prove(id: number): Promise<void> {
  const path = blockPath(id);
  const argv = [`if=${path}`, 'of=/dev/null', 'count=0', 'status=none'];
  const { status, stderr } = await runTool('dd', argv, { timeoutMs: SCAN_TIMEOUT_MS });
  if (status === 124) throw noAnswer(path);
  if (status !== 0) throw noNode(path, oneLine(stderr) || 'it cannot be opened');
}

function noAnswer(path: string): GatewayError {
  const text = `no partition table of ${path} was read in ${SCAN_TIMEOUT_MS / 1000} s`;
  return new GatewayError('UNBD_BACKEND_TIMEOUT', `${text}: the backend does not answer`, {
    hint: 'check the backend; --no-partition-scan connects without a read',
  });
}

/** Nodes that we made, and with a disk's those of its partitions, which nobody else made either. */
async function remove(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await rm(path, { force: true });
    const disk = /^\/dev\/(ublkb\d+)$/.exec(path)?.[1];
    if (disk === undefined) continue;
    const isPartition = new RegExp(`^${disk}p\\d+$`);
    for (const name of readdirSync('/dev').filter((one) => isPartition.test(one))) {
      await rm(`/dev/${name}`, { force: true });
    }
  }
}

/**
 * The node of a partition, made where nobody else does. Undefined while the kernel does not know
 * the partition: it may look for partitions after the disk is there.
 */
export async function findPartition(id: number, partition: number): Promise<string | undefined> {
  const name = `ublkb${id}p${partition}`;
  const number = readNumber(`/sys/block/ublkb${id}/${name}/dev`);
  if (number === undefined) return undefined;
  await ensureNode(`/dev/${name}`, 'b', number);
  return `/dev/${name}`;
}

async function ensureNode(
  path: string,
  type: 'b' | 'c',
  number: DeviceNumber,
): Promise<readonly string[]> {
  const patience = Date.now() + (hasDevtmpfs() ? PATIENCE_MS : 0);
  while (!isNode(path, type, number)) {
    if (Date.now() < patience) {
      await delay(POLL_MS);
      continue;
    }
    await rm(path, { force: true });
    const argv = ['-m', '0600', path, type, String(number.major), String(number.minor)];
    const { status, stderr } = await runTool('mknod', argv, { timeoutMs: NODE_TIMEOUT_MS });
    if (status !== 0) throw noNode(path, oneLine(stderr));
    return [path];
  }
  return [];
}

function isNode(path: string, type: 'b' | 'c', number: DeviceNumber): boolean {
  const status = statSync(path, { throwIfNoEntry: false });
  if (status === undefined) return false;
  const sameType = type === 'b' ? status.isBlockDevice() : status.isCharacterDevice();
  return sameType && status.rdev === makeDevice(number);
}

/**
 * dev_t as glibc and the kernel's new encoding have it (makedev(3)); fits a double below 2^32
 * minors.
 */
function makeDevice({ major, minor }: DeviceNumber): number {
  return ((minor & 0xff) | ((major & 0xfff) << 8)) + Math.floor(minor / 256) * 2 ** 20;
}

function readNumber(path: string): DeviceNumber | undefined {
  const match = /^(\d+):(\d+)/.exec(readIfThere(path) ?? '');
  return match === null ? undefined : { major: Number(match[1]), minor: Number(match[2]) };
}

async function waitFor<T>(look: () => T | undefined, path: string): Promise<T> {
  const deadline = Date.now() + NODE_TIMEOUT_MS;
  for (;;) {
    const found = look();
    if (found !== undefined) return found;
    if (Date.now() >= deadline) throw noNode(path, 'the kernel does not show it in /sys');
    await delay(POLL_MS);
  }
}

function partitionsOf(id: number): string[] {
  return entriesIfThere(`/sys/block/ublkb${id}`).filter((name) => name.startsWith(`ublkb${id}p`));
}

function hasDevtmpfs(): boolean {
  return readMounts().some(
    (mount) => mount.directory === '/dev' && mount.fileSystem === 'devtmpfs',
  );
}

function noNode(path: string, reason: string): GatewayError {
  return new GatewayError('UNBD_NO_DEVICE_NODE', `no usable ${path}: ${reason}`, {
    hint: CONTAINER_FLAGS,
  });
}

/**
 * Makes /dev/ublk-nbd/NAME. Throws UNBD_DEVICE_EXISTS when the name leads to another device that is
 * there.
 */
async function makeLink(name: string, id: number): Promise<void> {
  const path = linkPath(name);
  await mkdir(LINK_FOLDER, { recursive: true });
  // Our umask is that of the run directory; names are for everybody.
  await chmod(LINK_FOLDER, 0o755);
  const target = await readlink(path).catch(() => undefined);
  const leadsElsewhere = target !== undefined && basename(target) !== `ublkb${id}`;
  if ((target === undefined && existsSync(path)) || (leadsElsewhere && existsSync(path))) {
    throw new GatewayError('UNBD_DEVICE_EXISTS', `the name ${name} is in use: ${path}`, {
      hint: 'take another --name, or see: ublk-nbd list',
    });
  }
  const temporary = `${LINK_FOLDER}/.${name}.${process.pid}`;
  await symlink(`../ublkb${id}`, temporary);
  await rename(temporary, path);
}

/** Removes the link if it leads to this device. */
async function removeLink(name: string, id: number): Promise<void> {
  const path = linkPath(name);
  const target = await readlink(path).catch(() => undefined);
  if (target !== undefined && basename(target) === `ublkb${id}`) await rm(path, { force: true });
}
