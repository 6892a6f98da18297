/**
 * Owns: `cache list|prune|verify`: what a folder of the cache on disk holds, for people.
 * Runs in: the CLI, without a controller.
 * Must not: touch an entry that somebody has, or one that is none.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { GatewayError } from '../protocols/errors.ts';
import { cacheFolderError, errnoOf } from './cache-error.ts';
import {
  type FoundEntry,
  findEntries,
  lockEntry,
  removeEntry,
  sweepRemoved,
} from './cache-scan.ts';
import { loadAddon } from './native.ts';
import type { CacheVerdict, NativeCacheFile, OpenCacheFile } from './native-cache.ts';

const DEFAULT_FOLDER = '/var/cache/ublk-nbd';
const DAY_MS = 24 * 60 * 60 * 1000;
/** Chunks between two looks at whether the user has enough. */
const VERIFY_STEP = 16;

export interface CacheEntryView {
  /** Of its folder. */
  readonly name: string;
  /** Of the object, without its query; null where the entry does not tell. */
  readonly url: string | null;
  /** Of the object, bytes. */
  readonly sizeBytes: number | null;
  /** What its data take on disk, bytes. */
  readonly cachedBytes: number;
  /** Null where the entry is broken. */
  readonly inUse: boolean | null;
  readonly madeAtMs: number | null;
  /** When it was opened, written or closed last. */
  readonly usedAtMs: number;
  /** Why no device can use it as it is. */
  readonly broken: string | null;
}

export interface PruneStep {
  readonly entry: CacheEntryView;
  /** recent: it was used lately, and stays. */
  readonly outcome: 'removed' | 'in use' | 'recent';
  /** On disk. */
  readonly freedBytes: number;
}

export type VerifyStep = CacheVerdict & {
  readonly entry: CacheEntryView;
  readonly outcome: 'checked' | 'in use' | 'broken';
};

const byAddon: OpenCacheFile = (spec) => new (loadAddon().CacheFile)(spec);

/** `directory`: undefined is the default one, which need not be there. */
export async function listCache(
  directory: string | undefined,
  openFile = byAddon,
): Promise<readonly CacheEntryView[]> {
  const entries = await entriesOf(directory);
  return entries.map((entry) => {
    const lock = tryLock(openFile, entry);
    if (typeof lock === 'object') lock.close();
    return viewOf(entry, lock);
  });
}

/** `olderThanDays`: undefined is every entry that is not in use. */
export async function* pruneCache(
  directory: string | undefined,
  olderThanDays: number | undefined,
  signal: AbortSignal,
  openFile = byAddon,
): AsyncGenerator<PruneStep> {
  const entries = await entriesOf(directory);
  await sweepRemoved(directory ?? DEFAULT_FOLDER).catch(() => undefined);
  const limitMs =
    olderThanDays === undefined ? Number.POSITIVE_INFINITY : Date.now() - olderThanDays * DAY_MS;
  for (const entry of entries) {
    stopIfAborted(signal);
    if (entry.usedAtMs > limitMs) {
      yield { entry: viewOf(entry, undefined), outcome: 'recent', freedBytes: 0 };
    } else if (await removed(openFile, entry)) {
      yield { entry: viewOf(entry, undefined), outcome: 'removed', freedBytes: entry.diskBytes };
    } else {
      yield { entry: viewOf(entry, 'in use'), outcome: 'in use', freedBytes: 0 };
    }
  }
}

export async function* verifyCache(
  directory: string | undefined,
  signal: AbortSignal,
  openFile = byAddon,
): AsyncGenerator<VerifyStep> {
  const nothing = { checkedBytes: 0n, droppedBytes: 0n };
  for (const entry of await entriesOf(directory)) {
    stopIfAborted(signal);
    const lock = tryLock(openFile, entry);
    const view = viewOf(entry, lock);
    if (lock === 'in use') yield { entry: view, outcome: 'in use', ...nothing };
    else if (typeof lock === 'string') yield { entry: view, outcome: 'broken', ...nothing };
    else yield { entry: view, outcome: 'checked', ...(await verifyFile(lock, entry, signal)) };
  }
}

async function verifyFile(
  file: NativeCacheFile,
  { folder }: FoundEntry,
  signal: AbortSignal,
): Promise<CacheVerdict> {
  let [checkedBytes, droppedBytes] = [0n, 0n];
  try {
    for (let first = 0; first < file.chunks; first += VERIFY_STEP) {
      const step = file.verify(first, Math.min(VERIFY_STEP, file.chunks - first));
      checkedBytes += step.checkedBytes;
      droppedBytes += step.droppedBytes;
      // A signal comes between two of these.
      await turn();
      stopIfAborted(signal);
    }
  } catch (error) {
    if (error instanceof GatewayError) throw error;
    throw cacheFolderError(folder, error);
  } finally {
    file.close();
  }
  return { checkedBytes, droppedBytes };
}

async function entriesOf(directory: string | undefined): Promise<readonly FoundEntry[]> {
  const path = directory ?? DEFAULT_FOLDER;
  try {
    return await findEntries(path);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw cacheFolderError(path, error);
    // No device has had a cache there yet.
    if (directory === undefined) return [];
    throw new GatewayError('UNBD_USAGE', `there is no folder ${path}`, {
      hint: 'name the one that --cache named',
    });
  }
}

/** Its lock, or that it is in use, or else why it cannot be opened, as a sentence's end. */
function tryLock(openFile: OpenCacheFile, entry: FoundEntry): NativeCacheFile | string {
  if (entry.broken !== undefined) return entry.broken;
  try {
    return lockEntry(openFile, entry);
  } catch (error) {
    return `it cannot be opened: ${errnoOf(error)}`;
  }
}

async function removed(openFile: OpenCacheFile, entry: FoundEntry): Promise<boolean> {
  try {
    return await removeEntry(openFile, entry);
  } catch (cause) {
    const text = `the entry ${entry.folder} cannot be removed: ${errnoOf(cause)}`;
    throw new GatewayError('UNBD_USAGE', text, { hint: 'look at what is in it', cause });
  }
}

function viewOf(
  { name, meta, broken, dataBytes, usedAtMs }: FoundEntry,
  lock: NativeCacheFile | string | undefined,
): CacheEntryView {
  const isInUse = lock === 'in use';
  const why = broken ?? (typeof lock === 'string' && !isInUse ? lock : undefined);
  return {
    name,
    url: meta?.url ?? null,
    sizeBytes: meta?.sizeBytes ?? null,
    cachedBytes: dataBytes,
    inUse: why === undefined ? isInUse : null,
    madeAtMs: meta === undefined ? null : Date.parse(meta.madeAt),
    usedAtMs,
    broken: why ?? null,
  };
}

function stopIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw new GatewayError('UNBD_INTERRUPTED', 'interrupted');
}
