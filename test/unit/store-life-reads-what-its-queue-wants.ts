/**
 * Claim: what the queue of a store wants is read into its place, every fill is ended exactly once,
 * an object that is another one fails the device, and an entry on disk is the store's until its
 * queue has stopped.
 * Method: StoreLife over a store of the test's own and a source that the test drives.
 */
import t from 'tap';
import type { Addon, Queues } from '../../src/gateway/native.ts';
import type { NativeCacheFile } from '../../src/gateway/native-cache.ts';
import type { StoreFill, StoreSpec, StoreStats } from '../../src/gateway/native-store.ts';
import type { BackendEvent, StartArgument } from '../../src/gateway/server-messages.ts';
import { type StoreCache, StoreLife } from '../../src/gateway/store-life.ts';
import type { Source, SourceRead } from '../../src/protocols/adapter.ts';
import { SourceError } from '../../src/protocols/source/source-error.ts';

const EIO = 5;

/** What the addon's Store is, without a queue behind it. */
class FakeStore {
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
class FakeCache implements StoreCache {
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

function fill(id: number, more: Partial<StoreFill> = {}): StoreFill {
  const place = { offsetBytes: 1024 * id, lengthBytes: 512, arenaOffsetBytes: 1024 * id };
  return { kind: 'read', id, urgent: true, ...place, ...more };
}

function begin(cache?: StoreCache) {
  const reads: { read: SourceRead; settle: (error?: Error) => void }[] = [];
  const source = {
    read: (read: SourceRead) =>
      new Promise<void>((resolve, reject) => {
        const settle = (error?: Error) => (error === undefined ? resolve() : reject(error));
        read.signal.addEventListener('abort', () => settle(new Error('aborted')));
        reads.push({ read, settle });
      }),
    close: async () => undefined,
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
  const start = { sizeBytes: 4096n, record: { options: { reconnectDelayMs: 0 } } };
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

const settled = () => new Promise((resolve) => setImmediate(resolve));

t.test('bytes land in their place, and the last of them ends the fill once', async (t) => {
  const { life, store, reads } = begin();
  t.match(store.spec, { sizeBytes: 4096n, chunkBytes: 2 ** 20, memoryBytes: 128 * 2 ** 20 });
  store.want(fill(1));
  const [first] = reads;
  t.match(first?.read, { offsetBytes: 1024, urgent: true });
  first?.read.into.fill(7);
  t.equal(new Uint8Array(store.arena)[1024], 7);
  t.equal(new Uint8Array(store.arena)[1024 + 512], 0);
  first?.read.landed(100);
  first?.read.landed(512);
  first?.settle();
  await settled();
  t.same(store.reports, [
    [1, 100, 0],
    [1, 512, 0],
  ]);
  life.end();
});

t.test('a range that cannot be read ends with EIO, and keeps what had landed', async (t) => {
  const { life, store, reads, events } = begin();
  store.want(fill(2));
  reads[0]?.read.landed(64);
  reads[0]?.settle(new SourceError('UNBD_BACKEND_UNREACHABLE', 'nobody is there'));
  await settled();
  t.same(store.reports, [
    [2, 64, 0],
    [2, 64, EIO],
  ]);
  t.match(events, [{ state: 'FAILING' }]);
  life.end();
});

t.test('another object fails everything, what is in memory too', async (t) => {
  const { life, store, reads, events, failedTimes } = begin();
  store.want(fill(0));
  reads[0]?.settle(new SourceError('UNBD_OBJECT_CHANGED', 'it is another one'));
  await settled();
  t.same(store.reports, [[0, 0, EIO]]);
  t.match(events, [{ state: 'FATAL', text: 'it is another one' }]);
  t.equal(failedTimes(), 1);
  life.end();
});

t.test('the end calls every read off, and ends its fill', async (t) => {
  const { life, store, reads } = begin();
  store.want(fill(3), fill(4, { urgent: false }), fill(4, { kind: 'promote' }));
  t.equal(reads.length, 2);
  life.end();
  life.end();
  await settled();
  t.same(store.reports, [
    [3, 0, EIO],
    [4, 0, EIO],
  ]);
});

t.test(
  'an entry on disk goes to the store, and to others when the queue has stopped',
  async (t) => {
    const cache = new FakeCache();
    const { life, store } = begin(cache);
    t.same(store.spec.cache, { file: cache.file, limitBytes: cache.limitBytes });
    cache.allow?.(false);
    cache.allow?.(true);
    t.same(store.allowed, [false, true]);
    life.end();
    t.equal(cache.allow, undefined, 'nobody looks for room any more');
    t.equal(cache.closed, 0, 'the queue may write to it yet');
    life.queuesTold({ kind: 'hold-expired' });
    t.equal(cache.closed, 0);
    life.queuesTold({ kind: 'stopped' });
    t.equal(cache.closed, 1);
  },
);

t.test('what a cache on disk does is counted where there is one', async (t) => {
  const memory = { cacheHits: 1n, cacheMisses: 2n, fetches: 3n, fetchedBytes: 4n };
  const { life, store } = begin();
  t.notOk('cache' in store.spec);
  t.strictSame(life.counters(), memory);
  life.end();
  const { life: other } = begin(new FakeCache());
  t.strictSame(other.counters(), {
    ...memory,
    cachedBytes: 5n,
    cacheReadBytes: 6n,
    cacheWrittenBytes: 7n,
    cacheCorruptBytes: 8n,
    cacheSkippedBytes: 9n,
  });
  other.end();
});
