/**
 * Owns: filesystems on a device or an image: made, mounted, filled, compared, checked.
 * Runs in: device test processes, as root.
 * Must not: compare through a cache; callers drop caches between writing and reading.
 */
import { mkdirSync } from 'node:fs';
import { packageFolder } from './package-folder.ts';
import { must, shell } from './process.ts';
import type { Scope } from './scope.ts';

export type FilesystemKind = 'ext4' | 'xfs';

/** The smallest that mkfs.xfs makes has 300 MiB; both are sparse. */
export const FILESYSTEM_BYTES: Readonly<Record<FilesystemKind, number>> = {
  ext4: 128 * 1024 * 1024,
  xfs: 304 * 1024 * 1024,
};

export async function makeFilesystem(kind: FilesystemKind, path: string): Promise<void> {
  await must(kind === 'ext4' ? ['mkfs.ext4', '-q', '-F', path] : ['mkfs.xfs', '-q', '-f', path]);
}

/** Mounts and returns the folder; the scope unmounts it if the test does not. */
export async function mountAt(
  scope: Scope,
  what: string,
  ...options: readonly string[]
): Promise<{ readonly folder: string; unmount(): Promise<void> }> {
  const folder = scope.path(`mnt-${Math.random().toString(36).slice(2)}`);
  mkdirSync(folder);
  await must(['mount', ...options, what, folder]);
  let mounted = true;
  const unmount = async (): Promise<void> => {
    if (!mounted) return;
    mounted = false;
    await must(['umount', folder]);
  };
  scope.defer(unmount);
  return { folder, unmount };
}

/** Copies sources of this project, and a few large files of random bytes beside them. */
export async function copyTree(folder: string, randomMib = 8): Promise<void> {
  await shell(`cd '${packageFolder}'; cp -a src bin scripts '${folder}/'`);
  await shell(`cd '${folder}'; for n in 1 2; do head -c ${randomMib / 2}M /dev/urandom >r$n; done`);
}

/** `b2sum` lines of every file below, in a fixed order; of strong digests it costs least. */
export function checksums(folder: string): Promise<string> {
  return shell(`cd '${folder}'; find . -type f -print0 | sort -z | xargs -0 b2sum`);
}

/** Checks without mending; what is not clean is a failure. */
export async function assertClean(kind: FilesystemKind, path: string): Promise<void> {
  const check = kind === 'ext4' ? ['fsck.ext4', '-f', '-n', path] : ['xfs_repair', '-n', path];
  await must(check);
}

/** The checksums of an image's files, read without ublk-nbd: by a loop device, read-only. */
export async function checksumsInImage(
  scope: Scope,
  kind: FilesystemKind,
  image: string,
): Promise<string> {
  const options = kind === 'xfs' ? 'ro,norecovery,nouuid' : 'ro,noload';
  const { folder, unmount } = await mountAt(scope, image, '-t', kind, '-o', `loop,${options}`);
  const sums = await checksums(folder);
  await unmount();
  return sums;
}
