/**
 * Claim: no byte of an answer is used that is not exactly the asked range of the opened object, as
 * it is stored; another object is told from a wrong answer.
 * Method: a server that is right but for one thing; a table of such things.
 */
import t from 'tap';
import {
  ETAG,
  type Headers,
  httpOrigin,
  MODIFIED,
  OBJECT,
  OBJECT_BYTES,
  type Origin,
  open,
  openLazily,
  rawOrigin,
  rawRange,
  readRange,
  sendRange,
  type Teardown,
} from '../support/http-origin.ts';

const FIRST = 512;
const LENGTH = 1024;
const LAST = FIRST + LENGTH - 1;

/** An origin that opens as it should, and then says `other` with `status`. */
async function lying(t: Teardown, other: Headers, status = 206): Promise<Origin> {
  return await httpOrigin(t, (request, response) => {
    if (request.headers.range === 'bytes=0-0') sendRange(request, response);
    else sendRange(request, response, other, status);
  });
}

const range = (first: number, last: number, total: number | string = OBJECT_BYTES): Headers => ({
  'Content-Range': `bytes ${first}-${last}/${total}`,
});

const NO_VERSION = { ETag: undefined, 'Last-Modified': undefined };

const ACCEPTED: readonly (readonly [what: string, other: Headers])[] = [
  ['the plain answer', {}],
  ['a total that is not told', range(FIRST, LAST, '*')],
  ['a unit in capitals', { 'Content-Range': `Bytes ${FIRST}-${LAST}/${OBJECT_BYTES}` }],
  ['no length', { 'Content-Length': undefined }],
  ['Content-Encoding: identity', { 'Content-Encoding': 'identity' }],
  ['the ETag alone', { 'Last-Modified': undefined }],
  ['the same ETag with another time', { 'Last-Modified': 'Sat, 21 Nov 2026 10:00:01 GMT' }],
];

const REFUSED: readonly (readonly [what: string, other: Headers, line: RegExp])[] = [
  ['a weak ETag and the same time', { ETag: 'W/"v2"' }, /its version is missing.*PROTOCOL/],
  ['no ETag and the same time', { ETag: undefined }, /its version is missing.*PROTOCOL/],
  ['no Content-Range', { 'Content-Range': undefined }, /Content-Range is missing.*PROTOCOL/],
  ['another unit', { 'Content-Range': 'lines 512-1535/4096' }, /Content-Range is "lines.*PROTOCOL/],
  ['another start', range(0, LENGTH - 1), /512-1535 were asked for, and it sends 0-1023.*PROTOCOL/],
  ['another end', range(FIRST, LAST + 1), /sends 512-1536.*PROTOCOL/],
  ['an end cut off', range(FIRST, LAST - 1), /sends 512-1534.*PROTOCOL/],
  ['a range that is no range', { 'Content-Range': 'bytes 512/4096' }, /PROTOCOL/],
  ['gzip', { 'Content-Encoding': 'gzip' }, /Content-Encoding is gzip.*PROTOCOL/],
  ['several ranges', { 'Content-Type': 'multipart/byteranges; boundary=x' }, /multipart.*PROTOCOL/],
  ['no version', NO_VERSION, /version is missing.*PROTOCOL/],
  ['another size', range(FIRST, LAST, 8192), /size was 4096 bytes and is 8192 bytes.*CHANGED/],
  ['another ETag', { ETag: '"v2"' }, /its ETag was "v1" and is "v2".*CHANGED/],
  ['another ETag and a cut range', { ETag: '"v2"', ...range(FIRST, 600, 601) }, /CHANGED/],
  [
    'another time, no ETag',
    { ETag: undefined, 'Last-Modified': 'Fri, 20 Nov 2026 10:00:00 GMT' },
    /Last-Modified was Sat, 21.* and is Fri, 20.*CHANGED/,
  ],
];

t.test('what is right is read', async (t) => {
  for (const [what, other] of ACCEPTED) {
    const { base } = await lying(t, other);
    const outcome = await readRange(await open(t, `${base}/image`), FIRST, LENGTH);
    t.equal(outcome.line, '', what);
    t.strictSame(outcome.into, OBJECT.slice(FIRST, LAST + 1), 'its bytes');
    t.equal(outcome.landedBytes, LENGTH, 'all landed');
  }
});

t.test('what is wrong in one thing is refused before a byte of it is used', async (t) => {
  for (const [what, other, line] of REFUSED) {
    const { base } = await lying(t, other);
    const outcome = await readRange(await open(t, `${base}/image`), FIRST, LENGTH);
    t.match(outcome.line, line, what);
    t.strictSame(outcome.landed, [], 'nothing landed');
    t.ok(
      outcome.into.every((byte) => byte === 0),
      'nothing was written',
    );
  }
});

const STATUSES: readonly (readonly [status: number, other: Headers, line: RegExp])[] = [
  [200, {}, /sends everything \(200\).*PROTOCOL/],
  [204, {}, /status is 204.*PROTOCOL/],
  [304, {}, /status is 304.*PROTOCOL/],
  [400, {}, /answers 400.*EXPORT_REFUSED/],
  [401, {}, /answers 401.*--header-file.*EXPORT_REFUSED/],
  [403, {}, /answers 403.*EXPORT_REFUSED/],
  [404, {}, /answers 404: it does not exist.*EXPORT_UNKNOWN/],
  [408, {}, /answers 408.*BACKEND_IO/],
  [410, {}, /answers 410.*EXPORT_UNKNOWN/],
  [412, {}, /another object now.*OBJECT_CHANGED/],
  [416, { 'Content-Range': undefined }, /a range that it has.*PROTOCOL/],
  [416, { 'Content-Range': 'bytes */512' }, /size was 4096 bytes and is 512.*OBJECT_CHANGED/],
  [416, { 'Content-Range': 'bytes */4096' }, /a range that it has.*PROTOCOL/],
  [429, {}, /too much to do.*BACKEND_IO/],
  [500, {}, /answers 500.*BACKEND_IO/],
];

t.test('every other status has its meaning', async (t) => {
  for (const [status, other, line] of STATUSES) {
    const { base } = await lying(t, other, status);
    const outcome = await readRange(await open(t, `${base}/image`), FIRST, LENGTH);
    t.match(outcome.line, line, String(status));
    t.strictSame(outcome.landed, [], 'nothing landed');
  }
});

t.test('a range that is not there is another object, where nothing else tells', async (t) => {
  const { base } = await lying(t, { 'Content-Range': undefined }, 416);
  const expected = { sizeBytes: BigInt(OBJECT_BYTES), etag: '', lastModified: MODIFIED };
  const source = await open(t, `${base}/image`, { expected });
  t.match((await readRange(source, FIRST, LENGTH)).line, /another object now.*OBJECT_CHANGED/);
});

t.test('200 is taken for the whole object alone', async (t) => {
  const { base } = await lying(t, { 'Content-Range': undefined }, 200);
  const source = await open(t, `${base}/image`);
  const whole = await readRange(source, 0, OBJECT_BYTES);
  t.equal(whole.line, '');
  t.strictSame(whole.into, OBJECT);
  t.match((await readRange(source, 0, LENGTH)).line, /sends everything/);
  const changed = await lying(t, { 'Content-Range': undefined, ETag: '"v2"' }, 200);
  const other = await open(t, `${changed.base}/image`);
  t.match((await readRange(other, 0, OBJECT_BYTES)).line, /OBJECT_CHANGED/);
});

t.test(
  'a request names its range, its version and no encoding, and HEAD is not used',
  async (t) => {
    const { base, requests } = await lying(t, {});
    await readRange(await open(t, `${base}/image?key=1`), FIRST, LENGTH);
    t.strictSame(
      requests.map(({ method }) => method),
      ['GET', 'GET'],
    );
    t.strictSame(
      requests.map(({ url }) => url),
      ['/image?key=1', '/image?key=1'],
    );
    t.strictSame(
      requests.map(({ headers }) => headers.range),
      ['bytes=0-0', 'bytes=512-1535'],
    );
    t.strictSame(
      requests.map(({ headers }) => headers['if-match']),
      [undefined, ETAG],
    );
    for (const { headers } of requests) t.equal(headers['accept-encoding'], 'identity');
  },
);

t.test('a weak ETag is no version to ask for', async (t) => {
  const { base, requests } = await httpOrigin(t, (request, response) => {
    sendRange(request, response, { ETag: 'W/"v1"' });
  });
  const source = await open(t, `${base}/image`);
  t.same(source.identity, { sizeBytes: 4096n, etag: '', lastModified: MODIFIED });
  t.equal((await readRange(source, FIRST, LENGTH)).line, '');
  t.equal(requests[1]?.headers['if-match'], undefined);
});

t.test('an object that is expected is asked for by its first read', async (t) => {
  const { base, requests } = await lying(t, {});
  const source = await openLazily(t, `${base}/image`);
  t.equal(requests.length, 0, 'opening asks for nothing');
  t.equal(source.info.sizeBytes, 4096n);
  t.equal((await readRange(source, FIRST, LENGTH)).line, '');
  const expected = { sizeBytes: 8192n, etag: '', lastModified: '' };
  const grown = await open(t, `${base}/image`, { expected });
  t.match((await readRange(grown, FIRST, LENGTH)).line, /was 8192 bytes and is 4096.*CHANGED/);
});

t.test('a body of another length is refused', async (t) => {
  const chunked = (head: string, body: Uint8Array): Buffer => {
    const lines = rawRange(head).toString('latin1').split('\r\n\r\n')[0] ?? '';
    const start = lines.replace(/Content-Length: \d+/, 'Transfer-Encoding: chunked');
    const size = body.length.toString(16);
    return Buffer.concat([
      Buffer.from(`${start}\r\n\r\n${size}\r\n`),
      body,
      Buffer.from('\r\n0\r\n\r\n'),
    ]);
  };
  for (const [extra, line] of [
    [-1, /1023 of 1024 bytes.*PROTOCOL/],
    [0, /^$/],
    [1, /more than the 1024 bytes.*PROTOCOL/],
  ] as const) {
    const base = await rawOrigin(t, (socket, head) => {
      socket.write(chunked(head, OBJECT.subarray(FIRST, LAST + 1 + extra)));
    });
    const outcome = await readRange(await openLazily(t, `${base}/image`), FIRST, LENGTH);
    t.match(outcome.line, line, `${extra} bytes too many`);
    const { landedBytes, into } = outcome;
    t.strictSame(into.subarray(0, landedBytes), OBJECT.slice(FIRST, FIRST + landedBytes));
    t.ok(
      into.subarray(landedBytes).every((byte) => byte === 0),
      'the rest is untouched',
    );
  }
  const { base } = await lying(t, { 'Content-Length': String(LENGTH + 1) });
  const announced = await readRange(await open(t, `${base}/image`), FIRST, LENGTH);
  t.match(announced.line, /Content-Length is 1025, 1024 bytes were asked for.*PROTOCOL/);
});
