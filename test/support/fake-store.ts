/**
 * Owns: a StoreLife over a store of the test's own and a source that the test drives.
 * Runs in: unit test processes.
 * Must not: judge.
 */
import type { ConnectOptions } from '../../src/gateway/messages.ts';
import type { Addon, Queues } from '../../src/gateway/native.ts';
import type { NativeCacheFile } from '../../src/gateway/native-cache.ts';
import type { StoreFill, StoreSpec, StoreStats } from '../../src/gateway/native-store.ts';
import type { BackendEvent, StartArgument } from '../../src/gateway/server-messages.ts';
import { type StoreCache, StoreLife } from '../../src/gateway/store-life.ts';
import type { Source, SourceRead, SourceTraffic } from '../../src/protocols/adapter.ts';

/** What the addon's Store is, without a queue behind it. */
export class FakeStore {
  readonly arena = new ArrayBuffer(8192);
  readonly reports: [id: number, landedBytes: number, errno: number][] = [];
  readonly allowed: boolean[] = [];
  wanted: StoreFill[] = [];
  readonly spec: StoreSpec;
  #onFills: () => void;

  constructor(spec: StoreSpec, onFills: () => void) {
    this.spec = spec;
    this.#onFills = onFills;
  }

  want(...fills: StoreFill[]): void {
    this.wanted = fills;
    this.#onFills();
  }

  take(): readonly StoreFill[] {
    return this.wanted.splice(0);
  }

  report(id: number, landedBytes: number, errno: number): void {
    this.reports.push([id, landedBytes, errno]);
  }

  allowCacheWrites(allowed: boolean): void {
    this.allowed.push(allowed);
  }

  stats(): StoreStats {
    return {
      ...{ hits: 1n, misses: 2n, fills: 3n, filledBytes: 4n },
      ...{ cachedBytes: 5n, cacheReadBytes: 6n, cacheWrittenBytes: 7n },
      ...{ cacheCorruptBytes: 8n, cacheSkippedBytes: 9n },
    };
  }
}

/** An entry on disk that keeps what is done with it. */
export class FakeCache implements StoreCache {
  readonly file = { cachedBytes: 0n } as unknown as NativeCacheFile;
  readonly limitBytes = 64n * 2n ** 20n;
  allow: ((allowed: boolean) => void) | undefined;
  closed = 0;

  watchRoom({ allow }: { allow(allowed: boolean): void }): () => void {
    this.allow = allow;
    return () => {
      this.allow = undefined;
    };
  }

  close(): void {
    this.closed += 1;
  }
}

export function fill(id: number, more: Partial<StoreFill> = {}): StoreFill {
  const place = { offsetBytes: 1024 * id, lengthBytes: 512, arenaOffsetBytes: 1024 * id };
  return { kind: 'read', id, urgent: true, background: false, ...place, ...more };
}

export function begin(
  cache?: StoreCache,
  traffic?: SourceTraffic,
  more: Partial<ConnectOptions> = {},
) {
  const reads: { read: SourceRead; settle: (error?: Error) => void }[] = [];
  const source = {
    read: (read: SourceRead) =>
      new Promise<void>((resolve, reject) => {
        const settle = (error?: Error) => (error === undefined ? resolve() : reject(error));
        read.signal.addEventListener('abort', () => settle(new Error('aborted')));
        reads.push({ read, settle });
      }),
    close: async () => undefined,
    ...(traffic === undefined ? {} : { traffic }),
  } as unknown as Source;
  const stores: FakeStore[] = [];
  class Store extends FakeStore {
    constructor(spec: StoreSpec, onFills: () => void) {
      super(spec, onFills);
      stores.push(this);
    }
  }
  const addon = { Store } as unknown as Addon;
  const events: BackendEvent[] = [];
  const told = (event: BackendEvent) => void events.push(event);
  const start = {
    sizeBytes: 4096n,
    record: { options: { reconnectDelayMs: 0, handshakeTimeoutMs: 1000, ...more } },
  };
  const life = new StoreLife(addon, source, start as unknown as StartArgument, told, cache);
  let failed = 0;
  const queues = {
    failAll: () => {
      failed += 1;
    },
    stats: () => ({ inFlight: 3 }),
  };
  life.started(queues as unknown as Queues);
  const [store] = stores;
  if (store === undefined) throw new Error('no store was made');
  return { life, store, reads, events, failedTimes: () => failed };
}

export const settled = () => new Promise((resolve) => setImmediate(resolve));
