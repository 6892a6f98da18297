/**
 * Owns: the life of a device that is served from a store: every range that its queue wants is read
 * from the source into the store's memory, and how it stands with the source is told.
 * Runs in: the server process, on the JS main thread, which has nothing else to do; a request that
 * the store can answer never comes here.
 * Must not: touch memory of the store outside a fill that has not ended.
 */
import assert from 'node:assert/strict';
import { setMaxListeners } from 'node:events';
import type { Source, SourceRead, SourceTraffic } from '../protocols/adapter.ts';
import type { SourceEvent } from '../protocols/source/hold.ts';
import { SteadySource } from '../protocols/source/steady-source.ts';
import type { Serving } from './backend.ts';
import type { RoomLinks } from './cache-room.ts';
import { FillProgress, placeOf, RunBound, runsOf } from './fill-run.ts';
import { log } from './log.ts';
import { type ConnectOptions, DEFAULT_RECONNECT_DELAY_MS } from './messages.ts';
import type { AdapterSpec, Addon, Queues } from './native.ts';
import type { NativeCacheFile } from './native-cache.ts';
import type { NativeStore, StoreFill, StoreSpec } from './native-store.ts';
import type { BackendEvent, StartArgument, UnflushedWrites } from './server-messages.ts';
import { storeCounters } from './store-counters.ts';

const DEFAULT_FILL_UNIT_BYTES = 1024 * 1024;
const DEFAULT_MEMORY_BYTES = 128 * 1024 * 1024;
const MAXIMUM_WINDOW_BYTES = 64 * 1024 * 1024;
/** Fills at once, of which each listens for the end in a few places. */
const MAXIMUM_LISTENERS = 4 * 256;
/** errno of Linux. */
const EIO = 5;

/** What a chunk of its store is, bytes. */
export function fillUnitOf({ fillUnitBytes }: Pick<ConnectOptions, 'fillUnitBytes'>): number {
  return fillUnitBytes ?? DEFAULT_FILL_UNIT_BYTES;
}

/** An entry on disk that was opened for a store; it is the store's from then on. */
export interface StoreCache {
  readonly file: NativeCacheFile;
  /** Of what the entry takes on disk, bytes. */
  readonly limitBytes: bigint;
  /** What it returns ends the watch. */
  watchRoom(links: Pick<RoomLinks, 'allow' | 'log'>): () => void;
  /** Gives the entry to others; a second time does nothing. */
  close(): void;
}

export class StoreLife implements Serving {
  readonly #source: SteadySource;
  readonly #traffic: SourceTraffic | undefined;
  readonly #store: NativeStore;
  readonly #reads = new Map<number, SourceRead>();
  readonly #ended = new AbortController();
  readonly #told: (event: BackendEvent) => void;
  readonly #cache: StoreCache | undefined;
  readonly #prefetches: boolean;
  readonly #endWatch: (() => void) | undefined;
  readonly #runBound = new RunBound();
  #queues: Queues | undefined;

  constructor(
    addon: Addon,
    source: Source,
    { devId, sizeBytes, record }: StartArgument,
    told: (event: BackendEvent) => void,
    cache?: StoreCache,
  ) {
    const { options } = record;
    this.#told = told;
    this.#cache = cache;
    setMaxListeners(MAXIMUM_LISTENERS, this.#ended.signal);
    this.#traffic = source.traffic;
    this.#source = new SteadySource(source, {
      holdMs: options.reconnectDelayMs ?? DEFAULT_RECONNECT_DELAY_MS,
      slowForMs: options.handshakeTimeoutMs,
      told: (event) => this.#sourceTold(event),
    });
    const memoryBytes = options.cacheMemoryBytes ?? DEFAULT_MEMORY_BYTES;
    const spec = {
      sizeBytes,
      chunkBytes: fillUnitOf(options),
      memoryBytes,
      maximumWindowBytes: MAXIMUM_WINDOW_BYTES,
      ...(cache === undefined ? {} : cacheSpec(cache, options)),
    };
    this.#prefetches = 'prefetch' in spec;
    this.#store = new addon.Store(spec, () => this.#fill());
    this.#endWatch = cache?.watchRoom({
      allow: (allowed) => this.#store.allowCacheWrites(allowed),
      log: (level, text) => log(level, devId, text),
    });
  }

  get adapter(): AdapterSpec {
    return { kind: 'store', store: this.#store };
  }

  started(queues: Queues): void {
    this.#queues = queues;
  }

  queuesTold({ kind }: { readonly kind: string }): void {
    if (kind !== 'stopped') return;
    this.end();
    // Not before: until then the queue may still write to it.
    this.#cache?.close();
  }

  unflushed(): UnflushedWrites {
    return { writes: 0, bytes: 0n };
  }

  counters(): Readonly<Record<string, bigint | number>> {
    return storeCounters(this.#store.stats(), this.#traffic, {
      hasDisk: this.#cache !== undefined,
      prefetches: this.#prefetches,
    });
  }

  end(): void {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort();
    this.#endWatch?.();
    void this.#source.close();
  }

  #sourceTold({ state, text }: SourceEvent): void {
    // What is in memory is of the object that is gone: it goes with it.
    if (state === 'FATAL') this.#queues?.failAll();
    const requests = this.#queues?.stats().inFlight ?? 0;
    this.#told({ state, text, ...(state === 'HOLDING' ? { lost: { requests } } : {}) });
  }

  #fill(): void {
    for (const run of runsOf(this.#store.take(), this.#runBound.bytes)) {
      const [first] = run;
      if (first?.kind === 'promote') this.#promote(first);
      else void this.#read(run);
    }
  }

  #promote({ id }: StoreFill): void {
    const read = this.#reads.get(id);
    // It may have ended meanwhile.
    if (read !== undefined) this.#source.promote(read);
  }

  async #read(run: readonly StoreFill[]): Promise<void> {
    const [first] = run;
    assert(first !== undefined);
    const { offsetBytes, urgent, background } = first;
    const progress = new FillProgress(run);
    const into = placeOf(run, this.#store.arena);
    // The last byte ends the last fill, and its place may be another's at once.
    const landed = (bytes: number): void =>
      progress.landed(bytes, (fill, landedBytes) => this.#report(fill, landedBytes, 0));
    const { signal } = this.#ended;
    const read = { offsetBytes, into, urgent, background, signal, landed };
    for (const { id } of run) this.#reads.set(id, read);
    let errno = 0;
    try {
      await this.#source.read(read);
    } catch {
      // Why has been told; the requests that wait for it fail.
      errno = EIO;
    }
    for (const [fill, landedBytes] of progress.rest(errno === 0)) {
      this.#report(fill, landedBytes, errno);
    }
  }

  #report({ id, lengthBytes }: StoreFill, landedBytes: number, errno: number): void {
    // Its id is another's as soon as it has ended.
    if (errno !== 0 || landedBytes === lengthBytes) this.#reads.delete(id);
    if (landedBytes === lengthBytes) this.#runBound.brought(lengthBytes);
    this.#store.report(id, landedBytes, errno);
  }
}

/** Without a cache nothing is prefetched: there is no place for it. */
function cacheSpec(
  { file, limitBytes }: StoreCache,
  { prefetch, prefetchBytesPerS = 0 }: ConnectOptions,
): Pick<StoreSpec, 'cache' | 'prefetch'> {
  const cache = { file, limitBytes };
  if (prefetch !== 'full') return { cache };
  return { cache, prefetch: { bytesPerS: BigInt(prefetchBytesPerS) } };
}
