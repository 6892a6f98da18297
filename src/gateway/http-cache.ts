/**
 * Owns: whether a device of an HTTP object has an entry on disk, and what becomes of it where it
 * cannot have one.
 * Runs in: the server process, on the JS main thread.
 * Must not: keep a device from living that lives already, or let a cache stand for an object whose
 * versions nothing tells apart.
 */
import type { ObjectIdentity } from '../protocols/adapter.ts';
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import type { Clock } from '../protocols/source/clock.ts';
import { type CacheEntry, openEntry } from './cache-entry.ts';
import { type EntryMeta, entryName, hasValidator, keyOf, metaOf } from './cache-meta.ts';
import { roomAboveFloor, watchRoom } from './cache-room.ts';
import { findEntries, removeEntry } from './cache-scan.ts';
import type { ConnectOptions } from './messages.ts';
import type { OpenCacheFile } from './native-cache.ts';
import { fillUnitOf, type StoreCache } from './store-life.ts';

const DEFAULT_LIMIT_BYTES = 10 * 1024 ** 3;

export interface CacheRequest {
  /** Of the object, as the device has it; what is secret in it goes nowhere. */
  readonly url: string;
  readonly identity: ObjectIdentity;
  readonly options: Pick<
    ConnectOptions,
    'cacheDirectory' | 'cacheSizeBytes' | 'prefetch' | 'fillUnitBytes'
  >;
  /** The device is there: whatever is wrong, it goes on in memory alone. */
  readonly isSuccessor: boolean;
  /** Why there is no cache on disk though one was asked for; one line. */
  warn(text: string): void;
  readonly clock?: Clock;
}

export interface HttpCache extends StoreCache {
  /** What it takes before its file system is at the floor of free space; undefined: unknown. */
  roomBytes(): Promise<bigint | undefined>;
  /** Removes what the folder holds of other versions of the object and nobody has. */
  removeOthers(): Promise<void>;
}

/**
 * Undefined: the object is kept in memory alone. Rejects, at a first connect only, where the folder
 * cannot be used.
 */
export async function openCache(
  openFile: OpenCacheFile,
  { url, identity, options, isSuccessor, warn, clock }: CacheRequest,
): Promise<HttpCache | undefined> {
  const { cacheDirectory: directory, cacheSizeBytes = DEFAULT_LIMIT_BYTES } = options;
  if (directory === undefined) return undefined;
  const unused = (why: string): undefined => {
    warn(`the cache on disk is not used: ${why}`);
  };
  if (!hasValidator(identity)) {
    return unused('its origin sends no strong ETag and no Last-Modified to tell versions apart');
  }
  if (options.prefetch === 'full' && !isSuccessor) checkHoldsAll(options, identity);
  const meta = metaOf(url, identity, fillUnitOf(options));
  let opened: CacheEntry | undefined;
  try {
    opened = await openEntry(openFile, directory, meta, clock);
  } catch (error) {
    if (!isSuccessor) throw error;
    return unused(asGatewayError(error).message);
  }
  if (opened === undefined) return unused('another process has the entry of this image');
  const entry = opened;
  const { file, close } = entry;
  return {
    file,
    limitBytes: BigInt(cacheSizeBytes),
    watchRoom: (links) => watchRoom({ ...links, directory, at: entry.directory }),
    roomBytes: () => roomAboveFloor(entry.directory),
    removeOthers: () => removeOthers(openFile, entry.directory, meta),
    close,
  };
}

/** What does not fit would be fetched again and again. Throws UNBD_USAGE. */
export function checkHoldsAll(
  { cacheSizeBytes: limitBytes = DEFAULT_LIMIT_BYTES }: Pick<ConnectOptions, 'cacheSizeBytes'>,
  { sizeBytes }: ObjectIdentity,
): void {
  if (sizeBytes <= BigInt(limitBytes)) return;
  const text = `the cache on disk does not hold the image: it is ${sizeBytes} bytes`;
  const hint = `add --cache-size ${(sizeBytes >> 20n) + 1n}M`;
  throw new GatewayError('UNBD_USAGE', text, { hint });
}

/** Best effort: what stays is left to `prune`. */
async function removeOthers(
  openFile: OpenCacheFile,
  directory: string,
  ours: EntryMeta,
): Promise<void> {
  const found = await findEntries(directory).catch(() => []);
  for (const entry of found) {
    const isOther = entry.broken === undefined && entry.name !== entryName(keyOf(ours));
    if (!isOther || entry.meta?.url !== ours.url || entry.meta.query !== ours.query) continue;
    await removeEntry(openFile, entry).catch(() => false);
  }
}
