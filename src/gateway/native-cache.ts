/**
 * Owns: the contract of the addon's CacheFile: the files of one entry of the cache on disk, open
 * and locked (native/node implements it).
 * Runs in: the server process and, for `cache`, the CLI; on the JS main thread; types only.
 * Must not: decide which entry it is, or whether one is wanted.
 */

export interface CacheFileSpec {
  /** The folder of one entry; it exists. `data` and `map` in it are made where they are missing. */
  readonly directory: string;
  /** Of the object, bytes. */
  readonly sizeBytes: bigint;
  /** As the store's, which it is given to. */
  readonly chunkBytes: number;
  /** Which object: 64 hexadecimal digits; an entry of another one is emptied. */
  readonly key: string;
}

/** What a verification read, and what of it was not as it had been written. */
export interface CacheVerdict {
  readonly checkedBytes: bigint;
  readonly droppedBytes: bigint;
}

export interface NativeCacheFile {
  /** Of the object, as far as it is cached, bytes. */
  readonly cachedBytes: bigint;
  /** Of the object; the last one may be shorter. */
  readonly chunks: number;
  /**
   * Writes all bytes of a chunk, which are as many as it has in the object; they are in the entry
   * after `commit`. Both wait for the disk and throw an Error whose `code` is an errno name; not
   * while a store has it.
   */
  save(chunk: number, bytes: Uint8Array): void;
  commit(): void;
  /**
   * Reads what is cached of `count` chunks from `firstChunk` on and drops what does not have its
   * checksum. Not while a store has it.
   */
  verify(firstChunk: number, count: number): CacheVerdict;
  /** Gives the lock back. */
  close(): void;
}

/** Throws an Error whose `code` is an errno name; EAGAIN: another process has the entry. */
export type MakeCacheFile = new (spec: CacheFileSpec) => NativeCacheFile;

/** `MakeCacheFile` as a function, for whoever needs no more of the addon. */
export type OpenCacheFile = (spec: CacheFileSpec) => NativeCacheFile;
