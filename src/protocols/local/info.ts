/**
 * Owns: what the local targets can do: null, memory, and a file or block device of this machine.
 * Runs in: server processes and the CLI (`info`), on the JS main thread.
 * Must not: open the file for I/O (native/local does), or follow it when it changes.
 */
import { constants } from 'node:fs';
import { access, readFile, stat } from 'node:fs/promises';
import type { BackendInfo, Target } from '../adapter.ts';
import { GatewayError } from '../errors.ts';

export type LocalTarget = Extract<Target, { kind: 'null' | 'memory' | 'file' }>;

const SECTOR_BYTES = 512;
const NO_LIMIT = 0xffffffff;

/**
 * The size of the image and what its adapter offers. Throws UNBD_EXPORT_UNKNOWN (no such file),
 * UNBD_EXPORT_UNUSABLE (not an image) or UNBD_NO_PERMISSION.
 */
export async function localInfo(target: LocalTarget): Promise<BackendInfo> {
  if (target.kind === 'file') return fileInfo(target.path);
  return offer({ sizeBytes: target.sizeBytes, readOnly: false });
}

interface Found {
  readonly sizeBytes: bigint;
  readonly readOnly: boolean;
  readonly rotational?: boolean;
  readonly minimumBlockBytes?: number;
}

function offer(found: Found): BackendInfo {
  const minimumBlockBytes = found.minimumBlockBytes ?? SECTOR_BYTES;
  return {
    sizeBytes: found.sizeBytes,
    readOnly: found.readOnly,
    canFlush: true,
    canFua: true,
    canTrim: true,
    canWriteZeroes: true,
    canFastZero: false,
    canMultiConn: true,
    rotational: found.rotational ?? false,
    minimumBlockBytes,
    preferredBlockBytes: Math.max(4096, minimumBlockBytes),
    maximumBlockBytes: NO_LIMIT,
  };
}

async function fileInfo(path: string): Promise<BackendInfo> {
  const status = await stat(path, { bigint: true }).catch((cause) => {
    throw fileError(path, cause);
  });
  const mayRead = await allows(path, constants.R_OK);
  if (!mayRead) {
    throw new GatewayError('UNBD_NO_PERMISSION', `${path} may not be read`, {
      hint: 'run as root, or change its permissions',
    });
  }
  const writable = await allows(path, constants.W_OK);
  let found: Found;
  if (status.isFile()) {
    found = { sizeBytes: status.size, readOnly: !writable };
  } else if (status.isBlockDevice()) {
    found = await blockDevice(path, status.rdev, writable);
  } else {
    throw unusable(path, 'it is neither a file nor a block device', 'name an image');
  }
  if (found.sizeBytes === 0n) {
    throw unusable(path, 'its size is 0', `give it a size: truncate -s 1G ${path}`);
  }
  return offer(found);
}

function allows(path: string, mode: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  );
}

/**
 * The kernel's own record of a disk or partition, by number: names and links need not agree with
 * /dev. A partition has no queue of its own.
 */
async function blockDevice(path: string, rdev: bigint, writable: boolean): Promise<Found> {
  const folder = `/sys/dev/block/${deviceNumber(rdev)}`;
  const number = async (...names: readonly string[]): Promise<bigint | undefined> => {
    for (const name of names) {
      const text = await readFile(`${folder}/${name}`, 'ascii').catch(() => '');
      if (/^\d+\s*$/.test(text)) return BigInt(text.trim());
    }
    return undefined;
  };
  const sectors = await number('size');
  if (sectors === undefined) {
    throw unusable(path, 'the kernel does not tell its size', 'check that /sys is mounted');
  }
  const blockBytes = await number('queue/logical_block_size', '../queue/logical_block_size');
  const rotational = await number('queue/rotational', '../queue/rotational');
  return {
    sizeBytes: sectors * BigInt(SECTOR_BYTES),
    readOnly: !writable || (await number('ro')) === 1n,
    rotational: rotational === 1n,
    minimumBlockBytes: Number(blockBytes ?? BigInt(SECTOR_BYTES)),
  };
}

/** `MAJOR:MINOR` of a dev_t as Linux packs it (gnu_dev_major(3)). */
function deviceNumber(rdev: bigint): string {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

function fileError(path: string, cause: unknown): GatewayError {
  const code = (cause as NodeJS.ErrnoException).code;
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new GatewayError('UNBD_EXPORT_UNKNOWN', `${path} does not exist`, {
      hint: `check the path, or make it: truncate -s 1G ${path}`,
      cause,
    });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new GatewayError('UNBD_NO_PERMISSION', `${path} cannot be reached`, {
      hint: 'run as root, or change the permissions of its folders',
      cause,
    });
  }
  const reason = code ?? (cause instanceof Error ? cause.message : String(cause));
  return unusable(path, `stat says ${reason}`, 'check the path', cause);
}

function unusable(path: string, why: string, hint: string, cause?: unknown): GatewayError {
  return new GatewayError('UNBD_EXPORT_UNUSABLE', `${path} cannot be a device: ${why}`, {
    hint,
    cause,
  });
}
