/**
 * Owns: images of the kinds that people put on web servers and in S3: file systems, full of files,
 * and disks with partitions.
 * Runs in: device test processes, as root.
 * Must not: make them with ublk-nbd's help.
 */
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { MIB } from './block.ts';
import { checksums, copyTree, FILESYSTEM_BYTES, makeFilesystem, mountAt } from './filesystem.ts';
import { must } from './process.ts';
import type { Scope } from './scope.ts';

export type ImageKind = 'ext4' | 'xfs' | 'squashfs' | 'iso9660';

export interface Image {
  readonly path: string;
  /** Of the files in it. */
  readonly checksums: string;
}

/** The first fits into the memory that it gets in tests, the second does not. */
const DISK_BYTES = { ext4: 64 * MIB, xfs: FILESYSTEM_BYTES.xfs } as const;

/**
 * An image of this kind at `path`, with the project's sources and a few MiB of random bytes;
 * `bytes` where it can be written to.
 */
export async function makeFilledImage(
  scope: Scope,
  kind: ImageKind,
  path: string,
  bytes?: number,
): Promise<Image> {
  if (kind === 'squashfs' || kind === 'iso9660') return packTree(scope, kind, path);
  writeFileSync(path, '');
  truncateSync(path, bytes ?? DISK_BYTES[kind]);
  await makeFilesystem(kind, path);
  const { folder, unmount } = await mountAt(scope, path, '-o', 'loop');
  await copyTree(folder, 4);
  const sums = await checksums(folder);
  await unmount();
  return { path, checksums: sums };
}

async function packTree(scope: Scope, kind: 'squashfs' | 'iso9660', path: string): Promise<Image> {
  const tree = scope.path(`${kind}-tree`);
  mkdirSync(tree);
  await copyTree(tree, 4);
  await must(
    kind === 'squashfs'
      ? ['mksquashfs', tree, path, '-quiet', '-no-progress']
      : ['xorriso', '-as', 'mkisofs', '-quiet', '-rock', '-output', path, tree],
  );
  return { path, checksums: await checksums(tree) };
}

/** A disk at `path` whose partitions, in a GPT, are these files. */
export async function makePartitioned(path: string, files: readonly string[]): Promise<void> {
  const table = ['partitioning', ...files, 'partition-type=gpt'];
  await must(['nbdkit', '--readonly', ...table, '--run', `nbdcopy "$uri" '${path}'`]);
}
