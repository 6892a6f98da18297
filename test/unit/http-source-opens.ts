/**
 * Claim: opening tells the size and version of an object, or says in one line why it cannot be a
 * device, without a secret; files with headers and certificates are used as they are now.
 * Method: servers of the test's own, with TLS too; tables of answers and of lines in files.
 */
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import {
  ETAG,
  failure,
  type Handler,
  type Headers,
  httpOrigin,
  MODIFIED,
  OBJECT,
  open,
  openLazily,
  rawOrigin,
  readRange,
  selfSigned,
  sendRange,
} from '../support/http-origin.ts';

const SECRET = 'hunter2';
const SECRET_PATH = `/image?X-Amz-Signature=${SECRET}`;

t.test('an object that answers has its size and version, and is a read-only device', async (t) => {
  const { base, requests } = await httpOrigin(t, sendRange);
  const source = await open(t, `${base}/image`);
  t.same(source.identity, { sizeBytes: 4096n, etag: ETAG, lastModified: MODIFIED });
  t.same(source.info, {
    sizeBytes: 4096n,
    readOnly: true,
    canFlush: false,
    canFua: false,
    canTrim: false,
    canWriteZeroes: false,
    canFastZero: false,
    canMultiConn: true,
    rotational: false,
    minimumBlockBytes: 512,
    preferredBlockBytes: 1_048_576,
    maximumBlockBytes: 0xffffffff,
  });
  t.strictSame(
    requests.map(({ method, headers }) => [method, headers.range]),
    [['GET', 'bytes=0-0']],
  );
  t.equal(requests[0]?.headers['user-agent'], 'ublk-nbd');
});

const REFUSED: readonly (readonly [status: number, other: Headers, line: RegExp])[] = [
  [200, {}, /sends no ranges.*UNBD_EXPORT_UNUSABLE/],
  [200, { 'Content-Length': '0' }, /its size is 0.*UNBD_EXPORT_UNUSABLE/],
  [206, { 'Content-Range': 'bytes 0-0/*' }, /size is not told.*UNBD_EXPORT_UNUSABLE/],
  [206, { 'Content-Range': 'bytes 0-0/9007199254740992' }, /over 2\^53.*UNBD_EXPORT_UNUSABLE/],
  [206, { 'Content-Range': 'bytes 0-1/4096' }, /0-0 were asked for.*UNBD_BACKEND_PROTOCOL/],
  [206, { 'Content-Range': 'bytes 0-0/0' }, /UNBD_BACKEND_PROTOCOL/],
  [206, { 'Content-Range': undefined }, /Content-Range is missing.*UNBD_BACKEND_PROTOCOL/],
  [206, { 'Content-Encoding': 'br' }, /Content-Encoding is br.*UNBD_BACKEND_PROTOCOL/],
  [416, { 'Content-Range': 'bytes */0' }, /its size is 0.*UNBD_EXPORT_UNUSABLE/],
  [416, { 'Content-Range': undefined }, /its size is 0.*UNBD_EXPORT_UNUSABLE/],
  [416, { 'Content-Range': 'bytes */4096' }, /refuses its first byte.*UNBD_BACKEND_PROTOCOL/],
  [400, {}, /UNBD_EXPORT_REFUSED/],
  [401, {}, /--header-file.*UNBD_EXPORT_REFUSED/],
  [403, {}, /--header-file.*UNBD_EXPORT_REFUSED/],
  [404, {}, /does not exist.*UNBD_EXPORT_UNKNOWN/],
  [410, {}, /UNBD_EXPORT_UNKNOWN/],
  [412, {}, /UNBD_EXPORT_REFUSED/],
  [429, {}, /UNBD_BACKEND_IO/],
  [500, {}, /UNBD_BACKEND_IO/],
  [204, {}, /UNBD_BACKEND_PROTOCOL/],
];

t.test('what cannot be a device is refused, with its address and without its query', async (t) => {
  for (const [status, other, line] of REFUSED) {
    const { base } = await httpOrigin(t, (request, response) => {
      // Servers may repeat what they were sent.
      response.statusMessage = SECRET;
      response.setHeader('X-Amz-Id', SECRET);
      sendRange(request, response, other, status);
    });
    const error = await failure(open(t, `${base}${SECRET_PATH}`));
    t.match(error?.line, line, `${status} ${JSON.stringify(other)}`);
    t.match(error?.line, `${base}/image`);
    t.ok(error?.hint ?? /PROTOCOL/.test(error?.line ?? ''), 'has a cure');
    t.notMatch(error?.line, SECRET);
  }
});

t.test('an origin that has too much to do says for how long', async (t) => {
  for (const [status, retryAfter, isOverload, low, high] of [
    [503, '7', true, 7000, 7000],
    [429, new Date(Date.now() + 60_000).toUTCString(), true, 50_000, 60_000],
    [503, 'Sat, 01 Jan 2000 00:00:00 GMT', true, 0, 0],
    [500, '1', false, 1000, 1000],
  ] as const) {
    const { base } = await httpOrigin(t, (_request, response) => {
      response.writeHead(status, { 'Retry-After': retryAfter }).end();
    });
    const error = await failure(open(t, `${base}/image`));
    t.match(error, { isOverload }, retryAfter);
    const { retryAfterMs } = error as unknown as { retryAfterMs: number };
    t.ok(retryAfterMs >= low && retryAfterMs <= high, `${retryAfterMs} ms`);
  }
  const { base } = await httpOrigin(t, (_request, response) => {
    response.writeHead(503, { 'Retry-After': 'soon' }).end();
  });
  t.match(await failure(open(t, `${base}/image`)), { retryAfterMs: undefined });
});

t.test('a host that is not there is told from one that is not known', async (t) => {
  const open1 = (url: string) => failure(open(t, `${url}${SECRET_PATH}`));
  const refused = (await open1('http://127.0.0.1:1'))?.line;
  t.match(refused, /127\.0\.0\.1:1 cannot be reached \(ECONNREFUSED\).*UNBD_BACKEND_UNREACHABLE/);
  const unknown = (await open1('http://host.invalid'))?.line;
  t.match(unknown, /host\.invalid is not known.*UNBD_BACKEND_UNKNOWN_HOST/);
  const mute = await rawOrigin(t, () => {});
  const silent = (await failure(open(t, `${mute}${SECRET_PATH}`, { timeoutMs: 300 })))?.line;
  t.match(silent, /sent nothing for 300 ms.*UNBD_BACKEND_TIMEOUT/);
  const noHandshake = mute.replace('http:', 'https:');
  const late = await failure(open(t, `${noHandshake}${SECRET_PATH}`, { timeoutMs: 300 }));
  t.match(late?.line, /took no connection within 300 ms.*UNBD_BACKEND_TIMEOUT/);
  for (const line of [refused, unknown, silent, late?.line]) t.notMatch(line, SECRET);
});

/** A file in a folder of this test's own. */
function fileWith(t: Test, text: string): string {
  const path = join(t.testdir(), 'file');
  writeFileSync(path, text, 'latin1');
  return path;
}

t.test('headers are sent as the file has them, and read again when they are refused', async (t) => {
  const path = fileWith(
    t,
    `# comment\r\n\r\nAuthorization: Bearer 1\r\nX-a:  b\xe9 \nUser-Agent: me\n`,
  );
  let token = 'Bearer 1';
  const origin = await httpOrigin(t, (request, response) => {
    if (request.headers.authorization === token) sendRange(request, response);
    else response.writeHead(403).end();
  });
  const source = await open(t, `${origin.base}/image`, { headerFile: path });
  t.match(origin.requests[0]?.headers, { 'x-a': 'b\xe9', 'user-agent': 'me' });
  token = `Bearer ${SECRET}`;
  t.match((await readRange(source, 0, 512)).line, /answers 403.*UNBD_EXPORT_REFUSED/);
  t.equal(origin.requests.length, 2, 'the same headers are not tried again');
  writeFileSync(path, `Authorization: ${token}\n`);
  t.strictSame((await readRange(source, 0, 512)).into, OBJECT.slice(0, 512));
  t.equal(origin.requests.length, 4, 'other headers are');
  token = 'Bearer 3';
  writeFileSync(path, 'Authorization: Bearer 4\n');
  t.match((await readRange(source, 0, 512)).line, /answers 403/);
  t.equal(origin.requests.length, 6, 'once');
  writeFileSync(path, SECRET);
  const { line } = await readRange(source, 0, 512);
  t.match(line, /line 1 of the header file .* is not a header.*UNBD_USAGE/);
  t.notMatch(line, SECRET);
});

t.test('headers that change with every refusal are tried once more, not for ever', async (t) => {
  const headerFile = fileWith(t, 'X-Try: 0\n');
  const { base, requests } = await httpOrigin(t, (_request, response) => {
    writeFileSync(headerFile, `X-Try: ${requests.length}\n`);
    response.writeHead(requests.length < 9 ? 401 : 404).end();
  });
  t.match((await failure(open(t, `${base}/image`, { headerFile })))?.line, /answers 401/);
  t.equal(requests.length, 2);
});

const BAD_LINES: readonly (readonly [text: string, line: RegExp])[] = [
  [SECRET, /line 1 .*not a header/],
  [`A: b\n\nBe arer: ${SECRET}`, /line 3 .*not a header/],
  [`: ${SECRET}`, /line 1 .*not a header/],
  [`A: ${SECRET}\0`, /line 1 .*not a header/],
  [` folded: ${SECRET}`, /line 1 .*not a header/],
  [`Range: ${SECRET}`, /line 1 .*sets Range/],
  [`IF-MATCH: ${SECRET}`, /line 1 .*sets IF-MATCH/],
  [`Host: ${SECRET}`, /line 1 .*sets Host/],
  [`A: ${SECRET.repeat(10_000)}`, /over 64 KiB/],
];

t.test('a line that is no header is refused by its number', async (t) => {
  for (const [text, line] of BAD_LINES) {
    const headerFile = fileWith(t, text);
    const error = await failure(open(t, 'http://127.0.0.1:1/', { headerFile }));
    t.match(error?.line, line);
    t.equal(error?.code, 'UNBD_USAGE');
    t.notMatch(error?.line, SECRET);
  }
  for (const option of ['headerFile', 'caFile']) {
    const error = await failure(open(t, 'http://127.0.0.1:1/', { [option]: '/nowhere' }));
    t.match(error?.line, /file \/nowhere cannot be read \(ENOENT\).*UNBD_USAGE/);
  }
});

async function tlsOrigin(t: Test, handler: Handler): Promise<{ base: string; ca: string }> {
  const certificate = selfSigned(t.testdir(), 'DNS:localhost');
  const server = createServer(certificate, handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { base: `https://localhost:${port}`, ca: certificate.path };
}

t.test('TLS is trusted by the CA that was named, and never left for plain HTTP', async (t) => {
  const plain = await httpOrigin(t, sendRange);
  const { base, ca } = await tlsOrigin(t, (request, response) => {
    if (request.url !== '/down') sendRange(request, response);
    else response.writeHead(302, { Location: `${plain.base}/a?${SECRET}` }).end();
  });
  const untrusted = await failure(open(t, `${base}${SECRET_PATH}`));
  t.match(untrusted?.line, /certificate of localhost.* not trusted.*--ca-file.*EXPORT_REFUSED/);
  t.notMatch(untrusted?.line, SECRET);
  const source = await open(t, `${base}/image`, { caFile: ca });
  t.strictSame((await readRange(source, 512, 512)).into, OBJECT.slice(512, 1024));
  const wrongName = base.replace('localhost', '127.0.0.1');
  t.match((await failure(open(t, wrongName, { caFile: ca })))?.line, /ALTNAME.*EXPORT_REFUSED/);
  const down = await failure(open(t, `${base}/down`, { caFile: ca }));
  t.match(down?.line, /redirects from https to http:.*not followed.*EXPORT_REFUSED/);
  t.notMatch(down?.line, SECRET);
  t.equal(plain.requests.length, 0);
  const noTls = await failure(open(t, plain.base.replace('http:', 'https:'), { caFile: ca }));
  t.match(noTls?.line, /no TLS connection.*UNBD_BACKEND_PROTOCOL/);
  const caFile = fileWith(t, 'no certificate');
  t.match((await failure(open(t, base, { caFile })))?.line, /holds no certificate.*UNBD_USAGE/);
});

t.test('a lazy source that cannot be reached says so when it is read', async (t) => {
  const source = await openLazily(t, 'http://127.0.0.1:1/image');
  t.match((await readRange(source, 0, 512)).line, /UNBD_BACKEND_UNREACHABLE/);
});
