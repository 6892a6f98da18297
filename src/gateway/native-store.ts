/**
 * Owns: the contract of the addon's Store: chunks of a remote object in memory, and the ranges that
 * a device's queue wants brought into it (native/node/store_binding.h implements it).
 * Runs in: the server process, on the JS main thread; types only.
 * Must not: decide what is fetched; the queue does.
 */
import type { NativeCacheFile } from './native-cache.ts';

export interface StoreSpec {
  /** Of the object, bytes. */
  readonly sizeBytes: bigint;
  /** The unit of eviction and the most that one fill brings: a power of two, 64 KiB to 16 MiB. */
  readonly chunkBytes: number;
  /** Bound of the memory that chunks take, bytes; at least four chunks. */
  readonly memoryBytes: number;
  /** Bound of what is read ahead of a sequential reader, bytes; 0: nothing is. */
  readonly maximumWindowBytes: number;
  /** Where chunks are kept on disk, and how much of it they may take there, bytes. */
  readonly cache?: { readonly file: NativeCacheFile; readonly limitBytes: bigint };
  /** All of the object is brought into the cache, at most so fast; 0n: as fast as it goes. */
  readonly prefetch?: { readonly bytesPerS: bigint };
}

/** A range that the queue wants, or that it wants sooner now. */
export interface StoreFill {
  readonly kind: 'read' | 'promote';
  /** Of the fill as long as it has not ended, 0 to 255. */
  readonly id: number;
  readonly urgent: boolean;
  /** Nobody is known to want it: it comes after everything else. */
  readonly background: boolean;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Where its bytes go in `arena`. */
  readonly arenaOffsetBytes: number;
}

export interface StoreStats {
  /** Requests that were answered at once, and those that had to wait for the source. */
  readonly hits: bigint;
  readonly misses: bigint;
  readonly fills: bigint;
  readonly filledBytes: bigint;
  /** Of the cache on disk, all 0n without one. What it holds, as bytes of the object. */
  readonly cachedBytes: bigint;
  readonly cacheReadBytes: bigint;
  readonly cacheWrittenBytes: bigint;
  /** Dropped because their checksum was wrong; they were fetched again. */
  readonly cacheCorruptBytes: bigint;
  /** Fetched, and not written. */
  readonly cacheSkippedBytes: bigint;
}

export interface NativeStore {
  /** All chunks' memory; only the range of a fill that has not ended may be written. */
  readonly arena: ArrayBuffer;
  /** What the queue has asked for since the last call. */
  take(): readonly StoreFill[];
  /**
   * So many bytes from the fill's start are in the arena; all of them end it, as does an `errno`
   * (positive; what landed stays).
   */
  report(id: number, landedBytes: number, errno: number): void;
  /**
   * Whether what is fetched goes to the cache on disk, at first true. A write that fails stops it
   * too, with a warning; true lets it try again. Without a cache it does nothing.
   */
  allowCacheWrites(allowed: boolean): void;
  stats(): StoreStats;
}

/** `onFills` is called when there is something to take. */
export type MakeStore = new (spec: StoreSpec, onFills: () => void) => NativeStore;
