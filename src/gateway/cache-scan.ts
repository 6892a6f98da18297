/**
 * Owns: the entries that a folder of the cache on disk holds: which there are, whether somebody
 * has one, and how one is removed.
 * Runs in: the server process and the CLI, on the JS main thread.
 * Must not: follow a symbolic link, or touch what is no entry of this user.
 */
import { lstat, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from './cache-error.ts';
import {
  DATA_FILE,
  ENTRY_FILES,
  type EntryMeta,
  entryName,
  isEntryName,
  keyOf,
  MAP_FILE,
  readMeta,
} from './cache-meta.ts';
import type { NativeCacheFile, OpenCacheFile } from './native-cache.ts';

/** Of stat(2)'s `blocks`, whatever the file system's own are. */
const BLOCK_BYTES = 512;
/** Behind the name of an entry that is being removed. */
const REMOVED = '.removed';

export interface FoundEntry {
  /** Of its folder, 32 hexadecimal digits. */
  readonly name: string;
  readonly folder: string;
  readonly meta?: EntryMeta;
  /** Why it cannot be used, as a sentence's end. */
  readonly broken?: string;
  /** The addon may open it: its files are files. */
  readonly isOpenable: boolean;
  /** What its data take on disk. */
  readonly dataBytes: number;
  /** What it takes on disk in all. */
  readonly diskBytes: number;
  /** When it was opened, written or closed last, ms since 1970. */
  readonly usedAtMs: number;
}

/** In order of name. Rejects with an errno when `directory` cannot be read. */
export async function findEntries(directory: string): Promise<readonly FoundEntry[]> {
  const names = (await readdir(directory)).filter(isEntryName).sort();
  const found: FoundEntry[] = [];
  for (const name of names) {
    const entry = await inspect(directory, name);
    if (entry !== undefined) found.push(entry);
  }
  return found;
}

/** Undefined: it is no entry, or was removed meanwhile. */
async function inspect(directory: string, name: string): Promise<FoundEntry | undefined> {
  const folder = join(directory, name);
  const own = await lookAt(folder);
  if (own?.isDirectory() !== true || own.uid !== process.geteuid?.()) return undefined;
  const meta = await readMeta(folder);
  if (meta === undefined) return undefined;
  const looks = await Promise.all(ENTRY_FILES.map((file) => lookAt(join(folder, file))));
  const data = looks[ENTRY_FILES.indexOf(DATA_FILE)];
  const map = looks[ENTRY_FILES.indexOf(MAP_FILE)];
  const isOpenable = data?.isFile() !== false && map?.isFile() !== false;
  const broken = whyBroken(name, meta, isOpenable, map !== undefined);
  return {
    name,
    folder,
    ...('broken' in meta ? {} : { meta }),
    ...(broken === undefined ? {} : { broken }),
    isOpenable,
    dataBytes: (data?.blocks ?? 0) * BLOCK_BYTES,
    diskBytes: looks.reduce((sum, look) => sum + (look?.blocks ?? 0) * BLOCK_BYTES, 0),
    usedAtMs: (map ?? own).mtimeMs,
  };
}

function whyBroken(
  name: string,
  meta: NonNullable<Awaited<ReturnType<typeof readMeta>>>,
  isOpenable: boolean,
  hasMap: boolean,
): string | undefined {
  if ('broken' in meta) return meta.broken;
  if (entryName(keyOf(meta)) !== name) return 'its meta.json is of another entry';
  if (!isOpenable) return 'its files are none';
  return hasMap ? undefined : 'its map is missing';
}

function lookAt(path: string) {
  return lstat(path).catch(() => undefined);
}

/**
 * Opens it, which nobody else does while it is open: 'in use' where somebody has it. Throws an
 * Error whose `code` is another errno. What is broken is emptied by that.
 */
export function lockEntry(
  openFile: OpenCacheFile,
  { folder, meta, broken }: FoundEntry,
): NativeCacheFile | 'in use' {
  const isWhole = meta !== undefined && broken === undefined;
  try {
    return openFile({
      directory: folder,
      sizeBytes: isWhole ? BigInt(meta.sizeBytes) : 512n,
      chunkBytes: isWhole ? meta.chunkBytes : 2 ** 16,
      key: isWhole ? keyOf(meta) : '0'.repeat(64),
    });
  } catch (error) {
    if (errnoOf(error) === 'EAGAIN') return 'in use';
    throw error;
  }
}

/** False: somebody has it, and it stays. Rejects with an errno when it cannot be removed. */
export async function removeEntry(openFile: OpenCacheFile, entry: FoundEntry): Promise<boolean> {
  const lock = lockForRemoval(openFile, entry);
  if (lock === 'in use') return false;
  try {
    const aside = `${entry.folder}${REMOVED}`;
    await discard(aside);
    // Whoever comes for the entry from here on makes another one.
    await rename(entry.folder, aside);
    await discard(aside);
    return true;
  } finally {
    lock?.close();
  }
}

/** Undefined: it cannot be opened, and so is of no use to anybody. */
function lockForRemoval(
  openFile: OpenCacheFile,
  entry: FoundEntry,
): NativeCacheFile | 'in use' | undefined {
  if (!entry.isOpenable) return undefined;
  try {
    return lockEntry(openFile, entry);
  } catch {
    return undefined;
  }
}

/** What removals left that were cut short; as far as it can be removed. */
export async function sweepRemoved(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!name.endsWith(REMOVED) || !isEntryName(name.slice(0, -REMOVED.length))) continue;
    await discard(join(directory, name)).catch(() => undefined);
  }
}

async function discard(folder: string): Promise<void> {
  const own = await lookAt(folder);
  if (own?.isDirectory() !== true || own.uid !== process.geteuid?.()) return;
  for (const file of ENTRY_FILES) await rm(join(folder, file), { force: true });
  await rmdir(folder);
}
