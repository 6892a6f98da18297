/**
 * Owns: the entry of one object in a cache on disk, opened for a device: its folder, its lock and
 * its meta.json.
 * Runs in: the server process, on the JS main thread.
 * Must not: use a folder that another user could change, or wait longer than WAIT_MS for the lock.
 */
import { closeSync, constants, openSync, utimesSync } from 'node:fs';
import { chmod, lstat, mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Clock, systemClock } from '../protocols/source/clock.ts';
import { cacheFolderError, errnoOf, foreignFolderError } from './cache-error.ts';
import { type EntryMeta, entryName, keyOf, MAP_FILE, readMeta, writeMeta } from './cache-meta.ts';
import type { NativeCacheFile, OpenCacheFile } from './native-cache.ts';
import { rootOutside } from './outside.ts';

/** A predecessor's process may still be ending. */
const WAIT_MS = 5_000;
const POLL_MS = 100;

export interface CacheEntry {
  /** The folder of the entry's folder, until close(): whatever is mounted where meanwhile. */
  readonly directory: string;
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
  let folder: number | undefined;
  try {
    folder = await openDirectory(directory);
    for (;;) {
      const opened = await tryOnce(openFile, directory, folder, wanted);
      if (opened !== undefined) return opened;
      if (clock.now() - startedAtMs >= WAIT_MS) break;
      await new Promise<void>((resolve) => clock.timer(POLL_MS, resolve));
    }
  } catch (error) {
    if (folder !== undefined) closeSync(folder);
    throw cacheFolderError(directory, error);
  }
  closeSync(folder);
  return undefined;
}

/** Its parent is not made: a file system that is not mounted yet would be missed. */
async function openDirectory(directory: string): Promise<number> {
  const path = `${await rootOutside()}${directory}`;
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
  }
  return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
}

/** Undefined: another process has it, or removes it at this moment. */
async function tryOnce(
  openFile: OpenCacheFile,
  shownDirectory: string,
  directoryFd: number,
  wanted: EntryMeta,
): Promise<CacheEntry | undefined> {
  const key = keyOf(wanted);
  const name = entryName(key);
  const folder = join(`/proc/self/fd/${directoryFd}`, name);
  let file: NativeCacheFile | undefined;
  try {
    await makeEntryFolder(folder, join(shownDirectory, name));
    const { sizeBytes, chunkBytes } = wanted;
    file = openFile({ directory: folder, sizeBytes: BigInt(sizeBytes), chunkBytes, key });
    const meta = await ensureMeta(folder, wanted);
    markUsed(folder);
    return entryOf(folder, file, meta, directoryFd);
  } catch (error) {
    file?.close();
    // `prune` moves a folder away before it gives the lock back.
    if (['EAGAIN', 'ENOENT'].includes(errnoOf(error))) return undefined;
    throw error;
  }
}

function entryOf(
  folder: string,
  file: NativeCacheFile,
  meta: EntryMeta,
  directoryFd: number,
): CacheEntry {
  let isClosed = false;
  return {
    directory: dirname(folder),
    file,
    meta,
    close: () => {
      if (isClosed) return;
      isClosed = true;
      markUsed(folder);
      file.close();
      closeSync(directoryFd);
    },
  };
}

async function makeEntryFolder(folder: string, shown: string): Promise<void> {
  try {
    await mkdir(folder, { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
  }
  const status = await lstat(folder);
  if (!status.isDirectory() || status.uid !== process.geteuid?.()) {
    throw foreignFolderError(shown);
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
