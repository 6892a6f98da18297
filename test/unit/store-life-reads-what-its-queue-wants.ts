/**
 * Claim: what the queue of a store wants is read into its place, every fill is ended exactly once,
 * an object that is another one fails the device, and an entry on disk is the store's until its
 * queue has stopped.
 * Method: StoreLife over a store of the test's own and a source that the test drives.
 */
import t from 'tap';
import { SourceError } from '../../src/protocols/source/source-error.ts';
import { Traffic } from '../../src/protocols/source/traffic.ts';
import { begin, FakeCache, fill, settled } from '../support/fake-store.ts';

const EIO = 5;

t.test('bytes land in their place, and the last of them ends the fill once', async (t) => {
  const { life, store, reads } = begin();
  t.match(store.spec, { sizeBytes: 4096n, chunkBytes: 2 ** 20, memoryBytes: 128 * 2 ** 20 });
  store.want(fill(1));
  const [first] = reads;
  t.match(first?.read, { offsetBytes: 1024, urgent: true });
  first?.read.into.set(new Uint8Array(512).fill(7), 0);
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
  const memory = {
    ...{ cacheHits: 1n, cacheMisses: 2n, cacheHitPercent: 33.3 },
    ...{ fetches: 3n, fetchedBytes: 4n },
  };
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

t.test('requests and their first bytes are counted as soon as there are any', async (t) => {
  const traffic = new Traffic();
  const { life } = begin(undefined, traffic);
  t.match(life.counters(), { originRequests: 0 });
  t.notOk('firstByteMedianMs' in life.counters());
  traffic.sent();
  traffic.began(100);
  const counters = life.counters();
  t.equal(counters.originRequests, 1);
  t.ok(Math.abs(Number(counters.firstByteMedianMs) - 100) < 10);
  t.equal(counters.firstByteP99Ms, counters.firstByteMedianMs);
  life.end();
});

t.test('what is prefetched is asked for in the background, and shows how far it is', async (t) => {
  const full = { prefetch: 'full', prefetchBytesPerS: 1000 } as const;
  const { life, store, reads } = begin(new FakeCache(), undefined, full);
  t.same(store.spec.prefetch, { bytesPerS: 1000n });
  t.match(life.counters(), { prefetchedBytes: 5n, cachedBytes: 5n });
  store.want(fill(1, { urgent: false, background: true }));
  t.match(reads[0]?.read, { urgent: false, background: true });
  life.end();
  const { life: other, store: memory } = begin(undefined, undefined, full);
  t.notOk('prefetch' in memory.spec, 'there is no place for it');
  t.notOk('prefetchedBytes' in other.counters());
  other.end();
});
