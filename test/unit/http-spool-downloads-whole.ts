/**
 * Claim: where an origin sends no ranges, --spool brings the whole object into its entry before
 * there is a device, checked by length and version, goes on after a failure without writing twice
 * what is there, and never hands out an entry that is not whole.
 * Method: spool() over a web server of the test's own without ranges, and an entry in memory.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import t from 'tap';
import type { HttpCache } from '../../src/gateway/http-cache.ts';
import { spool } from '../../src/gateway/http-spool.ts';
import type { ConnectOptions } from '../../src/gateway/messages.ts';
import type { NativeCacheFile } from '../../src/gateway/native-cache.ts';
import type { Target } from '../../src/protocols/adapter.ts';
import { errnoError } from '../support/fake-cache.ts';
import {
  ETAG,
  failure,
  type Handler,
  httpOrigin,
  MODIFIED,
  open,
  openLazily,
  readRange,
  type Teardown,
} from '../support/http-origin.ts';

process.env.UBLK_NBD_LOG_FILE = '/dev/null';

const CHUNK_BYTES = 2 ** 20;
const WHOLE = Buffer.from(
  Uint8Array.from({ length: 20 * CHUNK_BYTES + 1536 }, (_, at) => at * 7 + (at >> 9)),
);

/** An entry as the addon keeps it: what is committed is there for who opens it next. */
class Entry {
  readonly kept = new Map<number, Buffer>();
  readonly saves: number[] = [];
  commits = 0;
  opens = 0;
  isOpen = false;
  errno: string | undefined;
  refusal: string | undefined;
  roomBytes: bigint | undefined;

  async open(warn: (text: string) => void): Promise<HttpCache | undefined> {
    this.opens += 1;
    if (this.refusal !== undefined) {
      warn(this.refusal);
      return undefined;
    }
    if (this.isOpen) throw new Error('it is open');
    this.isOpen = true;
    const pending = new Map<number, Buffer>();
    const file = {
      cachedBytes: BigInt([...this.kept.values()].reduce((sum, { length }) => sum + length, 0)),
      save: (chunk: number, bytes: Uint8Array) => {
        if (this.errno !== undefined) throw errnoError(this.errno);
        if (this.kept.has(chunk)) return;
        this.saves.push(chunk);
        pending.set(chunk, Buffer.from(bytes));
      },
      commit: () => {
        this.commits += 1;
        for (const [chunk, bytes] of pending) this.kept.set(chunk, bytes);
        pending.clear();
      },
    } as unknown as NativeCacheFile;
    const close = () => {
      this.isOpen = false;
    };
    const roomBytes = async () => this.roomBytes;
    return { file, close, roomBytes } as unknown as HttpCache;
  }

  get content(): Buffer {
    const chunks = [...this.kept].sort(([one], [other]) => one - other);
    return Buffer.concat(chunks.map(([, bytes]) => bytes));
  }
}

function sendWhole(_request: IncomingMessage, response: ServerResponse): void {
  const headers = { 'Content-Length': WHOLE.length, ETag: ETAG, 'Last-Modified': MODIFIED };
  response.writeHead(200, headers).end(WHOLE);
}

async function world(t: Teardown, handler: Handler, change: Partial<ConnectOptions> = {}) {
  const origin = await httpOrigin(t, handler);
  const source = await open(t, `${origin.base}/disk.img`, { orWhole: true });
  const entry = new Entry();
  const told: string[] = [];
  const links = {
    target: { kind: 'http', url: origin.base, text: 'http://o/disk.img' } as Target,
    options: { cacheDirectory: '/c', ...change } as ConnectOptions,
    openCache: (warn: (text: string) => void) => entry.open(warn),
    progress: (text: string) => void told.push(text),
  };
  return { origin, source, entry, told, spooling: () => spool(source, links) };
}

t.test('all of it comes by one request, and is durable before the device is', async (t) => {
  const { origin, entry, told, spooling } = await world(t, sendWhole);
  const cache = await spooling();
  t.equal(origin.requests.length, 2, 'the one that opened it, and the download');
  t.notOk(origin.requests[1]?.headers.range);
  t.equal(origin.requests[1]?.headers['if-match'], ETAG);
  t.equal(Buffer.compare(entry.content, WHOLE), 0);
  t.equal(cache.file.cachedBytes, BigInt(WHOLE.length), 'as who opens it next finds it');
  t.ok(entry.isOpen && entry.commits >= 2);
  t.equal(told.at(-1), 'download http://o/disk.img: 21 of 21 MiB, 100 %');
  t.ok(told.length > 10 && told.length <= 101, 'once a percent at most');
});

t.test('an entry that is whole is not downloaded again', async (t) => {
  const { origin, entry, spooling } = await world(t, sendWhole);
  (await spooling()).close();
  await spooling();
  t.equal(origin.requests.length, 2);
  t.equal(entry.saves.length, 21);
});

t.test('after a failure it begins anew, and writes only what is not there', async (t) => {
  let asked = 0;
  const { entry, spooling } = await world(t, (request, response) => {
    asked += 1;
    if (asked !== 2) return sendWhole(request, response);
    response.writeHead(200, { 'Content-Length': WHOLE.length, ETag: ETAG });
    response.write(WHOLE.subarray(0, 18 * CHUNK_BYTES), () => response.destroy());
  });
  await spooling();
  t.equal(asked, 3);
  t.equal(Buffer.compare(entry.content, WHOLE), 0);
  const twice = entry.saves.filter((chunk, at) => entry.saves.indexOf(chunk) !== at);
  t.ok(twice.length <= 2 && twice.every((chunk) => chunk >= 16), 'what was committed stays');
});

t.test('an origin that always breaks off is given up, and the entry is given back', async (t) => {
  let asked = 0;
  const { entry, spooling } = await world(t, (request, response) => {
    asked += 1;
    if (asked === 1) return sendWhole(request, response);
    response.writeHead(200, { 'Content-Length': WHOLE.length, ETag: ETAG });
    response.write(WHOLE.subarray(0, 1000), () => response.destroy());
  });
  t.equal((await failure(spooling()))?.code, 'UNBD_BACKEND_CLOSED');
  t.equal(asked, 6);
  t.equal(entry.isOpen, false);
  t.equal(entry.kept.size, 0);
});

t.test('another version, or another length, ends it at once', async (t) => {
  for (const [code, headers] of [
    ['UNBD_OBJECT_CHANGED', { 'Content-Length': WHOLE.length, ETag: '"v2"' }],
    ['UNBD_BACKEND_PROTOCOL', { 'Content-Length': WHOLE.length - 512, ETag: ETAG }],
    ['UNBD_BACKEND_PROTOCOL', { 'Content-Length': WHOLE.length, 'Content-Encoding': 'gzip' }],
  ] as const) {
    let asked = 0;
    const { entry, spooling } = await world(t, (request, response) => {
      asked += 1;
      if (asked === 1) return sendWhole(request, response);
      response.writeHead(200, headers);
      response.end(WHOLE.subarray(0, headers['Content-Length']));
    });
    t.equal((await failure(spooling()))?.code, code);
    t.equal(asked, 2, 'it is not tried again');
    t.equal(entry.kept.size, 0);
  }
});

t.test('what does not fit is not downloaded', async (t) => {
  const { origin, entry, spooling } = await world(t, sendWhole, { cacheSizeBytes: 2 ** 24 });
  const line = /does not hold the image.*--cache-size 21M.*UNBD_USAGE/;
  t.match((await failure(spooling()))?.line, line);
  t.equal(origin.requests.length, 1);
  t.equal(entry.opens, 0);
});

t.test('a disk without room for it is told before the download', async (t) => {
  const { origin, entry, spooling } = await world(t, sendWhole);
  entry.roomBytes = BigInt(WHOLE.length - 1);
  const line = /\/c has no room.*lacks 20973056 bytes.*20973055 fit.*prune.*UNBD_USAGE/;
  t.match((await failure(spooling()))?.line, line);
  t.equal(origin.requests.length, 1);
  t.equal(entry.isOpen, false);
  entry.roomBytes += 1n;
  await spooling();
});

t.test('a disk that is full, and an entry that is taken, are told with a cure', async (t) => {
  const { entry, spooling } = await world(t, sendWhole);
  entry.errno = 'ENOSPC';
  t.match((await failure(spooling()))?.line, /\/c cannot be used: .*full; make room.*UNBD_USAGE/);
  t.equal(entry.isOpen, false);
  entry.refusal = 'another process has the entry of this image';
  t.match((await failure(spooling()))?.line, /another process has the entry.*name another --cache/);
});

t.test('a size that is not told is refused', async (t) => {
  const origin = await httpOrigin(t, (_request, response) => {
    response.writeHead(200, { ETag: ETAG });
    response.end('chunked');
  });
  const opened = failure(open(t, `${origin.base}/disk.img`, { orWhole: true }));
  t.match((await opened)?.line, /its size is not told.*UNBD_EXPORT_UNUSABLE/);
});

t.test('what the disk has lost is read from the whole, and from nothing else', async (t) => {
  const origin = await httpOrigin(t, sendWhole);
  const identity = { sizeBytes: BigInt(WHOLE.length), etag: ETAG, lastModified: MODIFIED };
  const options = { orWhole: true, expected: identity };
  const source = await openLazily(t, `${origin.base}/disk.img`, options);
  const offset = 3 * CHUNK_BYTES + 512;
  const outcome = await readRange(source, offset, 70_000);
  t.equal(outcome.line, '');
  t.equal(Buffer.compare(outcome.into, WHOLE.subarray(offset, offset + 70_000)), 0);
  t.equal(outcome.landedBytes, 70_000);
  const strict = await openLazily(t, `${origin.base}/disk.img`, { expected: identity });
  t.match((await readRange(strict, offset, 512)).line, /sends everything.*UNBD_BACKEND_PROTOCOL/);
});
