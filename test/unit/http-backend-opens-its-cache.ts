/**
 * Claim: a device of an HTTP image gets the entry of what its origin sends, and an entry whose
 * device does not come about is given back.
 * Method: openHttpBackend and serveHttpAgain over a web server of the test's own and a fake addon.
 */
import { join } from 'node:path';
import t from 'tap';
import { openHttpBackend, serveHttpAgain } from '../../src/gateway/http-backend.ts';
import type { ConnectOptions } from '../../src/gateway/messages.ts';
import type { Addon } from '../../src/gateway/native.ts';
import type { CacheFileSpec } from '../../src/gateway/native-cache.ts';
import type { StoreSpec } from '../../src/gateway/native-store.ts';
import type { StartArgument } from '../../src/gateway/server-messages.ts';
import { parseTarget } from '../../src/protocols/target.ts';
import { FakeCacheFiles } from '../support/fake-cache.ts';
import {
  ETAG,
  httpOrigin,
  MODIFIED,
  OBJECT_BYTES,
  sendRange,
  type Teardown,
  TIMEOUT_MS,
} from '../support/http-origin.ts';

// What is warned of goes to the log, which is not this machine's.
process.env.UBLK_NBD_LOG_FILE = '/dev/null';

async function world(t: Teardown, cacheDirectory: string) {
  const { base } = await httpOrigin(t, (request, response) => sendRange(request, response));
  const target = parseTarget(`${base}/disk.img?s3cret`);
  if (target.kind !== 'http') throw new Error('it is no web address');
  const files = new FakeCacheFiles();
  const stores: StoreSpec[] = [];
  const state = { hasMemory: true };
  class Store {
    constructor(spec: StoreSpec) {
      if (!state.hasMemory) throw new Error('no memory');
      stores.push(spec);
    }
  }
  // A constructor may answer with another object.
  function CacheFile(spec: CacheFileSpec) {
    return files.open(spec);
  }
  const widened: number[] = [];
  const widenReceiveWindow = (_fd: number, bytes: number) => widened.push(bytes) > 0;
  const addon = { Store, CacheFile, widenReceiveWindow } as unknown as Addon;
  const options: ConnectOptions = {
    ...{ target, readOnly: true, partitionScan: false, dataPath: 'copy' },
    handshakeTimeoutMs: TIMEOUT_MS,
    cacheDirectory,
  };
  const sizeBytes = BigInt(OBJECT_BYTES);
  const record = { options, identity: { sizeBytes, etag: ETAG, lastModified: MODIFIED } };
  const start = { devId: 7, sizeBytes, record } as unknown as StartArgument;
  const openBackend = (change: Partial<ConnectOptions> = {}) =>
    openHttpBackend(addon, target, { ...options, ...change }, 2);
  return { addon, target, files, stores, state, start, openBackend, widened };
}

const ignore = () => undefined;

t.test('the store gets the entry, and gives it back when its queue has stopped', async (t) => {
  const { files, stores, start, openBackend, widened } = await world(t, t.testdir());
  const backend = await openBackend({ cacheSizeBytes: 2 ** 26 });
  t.same(widened, [4 * 2 ** 20], 'its one connection has room for the largest request');
  t.match(files.specs, [{ sizeBytes: BigInt(OBJECT_BYTES), chunkBytes: 2 ** 20 }]);
  const serving = backend.serve(start, ignore);
  t.match(stores, [{ cache: { limitBytes: 2n ** 26n } }]);
  t.equal(files.locked.size, 1);
  serving.queuesTold({ kind: 'stopped', queue: 0, text: '' });
  t.equal(files.locked.size, 0);
});

t.test('store, entry and device have the fill unit that was asked for', async (t) => {
  const { files, stores, start, openBackend } = await world(t, t.testdir());
  const backend = await openBackend({ fillUnitBytes: 2 ** 16 });
  t.equal(backend.info.preferredBlockBytes, 2 ** 16);
  t.match(files.specs, [{ chunkBytes: 2 ** 16 }]);
  const { options } = start.record;
  const record = { ...start.record, options: { ...options, fillUnitBytes: 2 ** 16 } };
  const serving = backend.serve({ ...start, record }, ignore);
  t.match(stores, [{ chunkBytes: 2 ** 16 }]);
  serving.queuesTold({ kind: 'stopped', queue: 0, text: '' });
});

t.test('what cannot be a device is told before the folder is touched', async (t) => {
  const { files, openBackend } = await world(t, t.testdir());
  const refused = { code: 'UNBD_USAGE', message: /block size of 1000 is not possible/ };
  await t.rejects(openBackend({ blockSizeBytes: 1000 }), refused);
  t.equal(files.specs.length, 0);
});

t.test('what fails before or with the device gives the entry back', async (t) => {
  const { files, state, start, openBackend } = await world(t, t.testdir());
  await t.rejects(openBackend({ queues: 2 }), { code: 'UNBD_USAGE' });
  t.equal(files.locked.size, 0);
  const closed = await openBackend();
  t.equal(files.locked.size, 1);
  closed.close();
  t.equal(files.locked.size, 0);
  state.hasMemory = false;
  const failed = await openBackend();
  t.throws(() => failed.serve(start, ignore), { message: 'no memory' });
  t.equal(files.locked.size, 0);
  failed.close();
});

t.test('a folder that cannot be used ends a connect, and a successor goes on', async (t) => {
  const missing = join(t.testdir(), 'not/there');
  const { addon, target, stores, start, openBackend } = await world(t, missing);
  await t.rejects(openBackend(), { code: 'UNBD_USAGE', message: /not\/there cannot be used/ });
  const serving = await serveHttpAgain(addon, target, start, ignore);
  t.equal(stores.length, 1);
  t.notOk('cache' in (stores[0] ?? {}));
  serving.end();
});

t.test('a successor gets the entry of its predecessor', async (t) => {
  const { addon, target, files, stores, start, openBackend } = await world(t, t.testdir());
  (await openBackend()).close();
  const serving = await serveHttpAgain(addon, target, start, ignore);
  t.equal(files.specs.length, 2);
  t.strictSame(files.specs[0], files.specs[1]);
  t.match(stores, [{ cache: { limitBytes: 10n * 2n ** 30n } }]);
  serving.queuesTold({ kind: 'stopped', queue: 0, text: '' });
  t.equal(files.locked.size, 0);
});

t.test('what is prefetched fits the entry, or the connect says what to write', async (t) => {
  const { files, stores, start, openBackend } = await world(t, t.testdir());
  const full = { prefetch: 'full', prefetchBytesPerS: 5 } as const;
  await t.rejects(openBackend({ ...full, cacheSizeBytes: OBJECT_BYTES - 1 }), {
    code: 'UNBD_USAGE',
    message: /does not hold the image/,
    hint: /--cache-size 1M/,
  });
  t.equal(files.locked.size, 0);
  const backend = await openBackend({ ...full, cacheSizeBytes: OBJECT_BYTES });
  const record = { ...start.record, options: { ...start.record.options, ...full } };
  const serving = backend.serve({ ...start, record }, ignore);
  t.match(stores, [{ prefetch: { bytesPerS: 5n } }]);
  serving.queuesTold({ kind: 'stopped', queue: 0, text: '' });
});
