/**
 * Owns: the entry of one object in a cache on disk, opened for a device: its folder, its lock and
 * its meta.json.
 * Runs in: the server process, on the JS main thread.
 * Must not: use a folder that another user could change, or wait longer than WAIT_MS for the lock.
 */
import { utimesSync } from 'node:fs';
import { chmod, lstat, mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, systemClock } from '../protocols/source/clock.ts';
import { cacheFolderError, errnoOf, foreignFolderError } from './cache-error.ts';
import { type EntryMeta, entryName, keyOf, MAP_FILE, readMeta, writeMeta } from './cache-meta.ts';
import type { NativeCacheFile, OpenCacheFile } from './native-cache.ts';

/** A predecessor's process may still be ending. */
const WAIT_MS = 5_000;
const POLL_MS = 100;

export interface CacheEntry {
  readonly file: NativeCacheFile;
  readonly meta: EntryMeta;
  /** Gives the lock back; once is enough. */
  close(): void;
}

/**
 * Opens the entry in `directory`, which is made where only its last part is missing. Undefined:
 * another process has it. Rejects with the cause and its cure where the folder cannot be used.
 */
export async function openEntry(
  openFile: OpenCacheFile,
  directory: string,
  wanted: EntryMeta,
  clock: Clock = systemClock,
): Promise<CacheEntry | undefined> {
  const startedAtMs = clock.now();
  try {
    await makeDirectory(directory);
    for (;;) {
      const opened = await tryOnce(openFile, directory, wanted);
      if (opened !== undefined) return opened;
      if (clock.now() - startedAtMs >= WAIT_MS) return undefined;
      await new Promise<void>((resolve) => clock.timer(POLL_MS, resolve));
    }
  } catch (error) {
    throw cacheFolderError(directory, error);
  }
}

/** Its parent is not made: a file system that is not mounted yet would be missed. */
async function makeDirectory(directory: string): Promise<void> {
  try {
    await mkdir(directory, { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
  }
  if (!(await stat(directory)).isDirectory()) {
    throw Object.assign(new Error('not a directory'), { code: 'ENOTDIR' });
  }
}

/** Undefined: another process has it, or removes it at this moment. */
async function tryOnce(
  openFile: OpenCacheFile,
  directory: string,
  wanted: EntryMeta,
): Promise<CacheEntry | undefined> {
  const key = keyOf(wanted);
  const folder = join(directory, entryName(key));
  let file: NativeCacheFile | undefined;
  try {
    await makeEntryFolder(folder);
    const { sizeBytes, chunkBytes } = wanted;
    file = openFile({ directory: folder, sizeBytes: BigInt(sizeBytes), chunkBytes, key });
    const meta = await ensureMeta(folder, wanted);
    markUsed(folder);
    return entryOf(folder, file, meta);
  } catch (error) {
    file?.close();
    // `prune` moves a folder away before it gives the lock back.
    if (['EAGAIN', 'ENOENT'].includes(errnoOf(error))) return undefined;
    throw error;
  }
}

function entryOf(folder: string, file: NativeCacheFile, meta: EntryMeta): CacheEntry {
  let isClosed = false;
  return {
    file,
    meta,
    close: () => {
      if (isClosed) return;
      isClosed = true;
      markUsed(folder);
      file.close();
    },
  };
}

async function makeEntryFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
  }
  const status = await lstat(folder);
  if (!status.isDirectory() || status.uid !== process.geteuid?.()) {
    throw foreignFolderError(folder);
  }
  if ((status.mode & 0o077) !== 0) await chmod(folder, 0o700);
}

/** The entry's own, where it says what it must; `madeAt` is older in it. */
async function ensureMeta(folder: string, wanted: EntryMeta): Promise<EntryMeta> {
  const found = await readMeta(folder);
  const isRight =
    found !== undefined &&
    !('broken' in found) &&
    keyOf(found) === keyOf(wanted) &&
    found.chunkBytes === wanted.chunkBytes;
  if (isRight) return found;
  await writeMeta(folder, wanted);
  return wanted;
}

/** By this time `prune` tells what is used; an entry that is complete is never written again. */
function markUsed(folder: string): void {
  const now = new Date();
  try {
    utimesSync(join(folder, MAP_FILE), now, now);
  } catch {
    // It is removed some day too early, and fetched again.
  }
}
