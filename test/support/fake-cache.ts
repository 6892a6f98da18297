/**
 * Owns: what the addon's CacheFile is to those who only open, lock, verify and close it: a lock a
 * folder, and two files; and how a device opens its cache over it.
 * Runs in: unit tests.
 * Must not: cache anything.
 */
import { existsSync, mkdirSync, realpathSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { entryName, keyOf, metaOf } from '../../src/gateway/cache-meta.ts';
import { type CacheRequest, type HttpCache, openCache } from '../../src/gateway/http-cache.ts';
import type {
  CacheFileSpec,
  CacheVerdict,
  NativeCacheFile,
} from '../../src/gateway/native-cache.ts';
import type { ObjectIdentity } from '../../src/protocols/adapter.ts';
import { FakeClock, settled } from './fake-clock.ts';

export const CHUNK_BYTES = 2 ** 20;
export const URL_TEXT = 'https://images.example/disk.img';

/** An Error as the addon throws it. */
export function errnoError(code: string): Error {
  return Object.assign(new Error(code), { code });
}

export class FakeCacheFiles {
  /** Folders that somebody has, this process or another. */
  readonly locked = new Set<string>();
  /** Every attempt to open one, in order. */
  readonly specs: CacheFileSpec[] = [];
  /** [first chunk, how many] of every verification. */
  readonly verified: [first: number, count: number][] = [];
  /** What a folder answers instead of being opened. */
  readonly errnos = new Map<string, string>();
  /** Called before each attempt to open one. */
  onAttempt: (attempt: number) => void = () => undefined;
  /** Of each step of a verification. */
  verdict: CacheVerdict = { checkedBytes: 100n, droppedBytes: 0n };

  readonly open = (spec: CacheFileSpec): NativeCacheFile => {
    // The lock is the file's, by whatever path.
    const directory = realpathSync(spec.directory);
    this.specs.push({ ...spec, directory });
    this.onAttempt(this.specs.length);
    const errno = this.errnos.get(directory) ?? this.errnos.get('*');
    if (errno !== undefined) throw errnoError(errno);
    if (this.locked.has(directory)) throw errnoError('EAGAIN');
    for (const name of ['data', 'map']) {
      if (!existsSync(join(directory, name))) writeFileSync(join(directory, name), '');
    }
    this.locked.add(directory);
    return {
      cachedBytes: 0n,
      chunks: Math.ceil(Number(spec.sizeBytes) / spec.chunkBytes),
      save: () => undefined,
      commit: () => undefined,
      verify: (first, count) => {
        this.verified.push([first, count]);
        return this.verdict;
      },
      close: () => void this.locked.delete(directory),
    };
  };
}

export function identity(change: Partial<ObjectIdentity> = {}): ObjectIdentity {
  return { sizeBytes: 40n * 2n ** 20n, etag: '"one"', lastModified: '', ...change };
}

/** Makes an entry as a device leaves it, last used `ageDays` ago; answers its folder. */
export function makeEntry(
  directory: string,
  url: string,
  change: Partial<ObjectIdentity> = {},
  ageDays = 0,
): string {
  const meta = metaOf(url, identity(change), CHUNK_BYTES);
  const folder = join(directory, entryName(keyOf(meta)));
  mkdirSync(folder, { mode: 0o700 });
  writeFileSync(join(folder, 'data'), Buffer.alloc(8192, 1));
  writeFileSync(join(folder, 'map'), 'map');
  writeFileSync(join(folder, 'meta.json'), JSON.stringify(meta));
  const usedAt = new Date(Date.now() - ageDays * 24 * 3600 * 1000);
  utimesSync(join(folder, 'map'), usedAt, usedAt);
  return folder;
}

export function keyFor(url: string, change: Partial<ObjectIdentity> = {}): string {
  return keyOf(metaOf(url, identity(change), CHUNK_BYTES));
}

/** A folder of a cache, and how a device opens its entry there. */
export function world(directory: string) {
  const files = new FakeCacheFiles();
  const clock = new FakeClock();
  const warnings: string[] = [];
  /** Moves the clock whenever something waits for it, and only then. */
  const open = async (change: Partial<CacheRequest> = {}): Promise<HttpCache | undefined> => {
    let isDone = false;
    const opening = openCache(files.open, {
      url: URL_TEXT,
      identity: identity(),
      options: { cacheDirectory: directory },
      isSuccessor: false,
      warn: (text) => void warnings.push(text),
      clock,
      ...change,
    }).finally(() => {
      isDone = true;
    });
    opening.catch(() => undefined);
    while (!isDone) await (clock.timers > 0 ? clock.advance(100) : settled());
    return opening;
  };
  return { files, clock, warnings, open };
}
