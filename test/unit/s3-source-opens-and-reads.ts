/**
 * Claim: an object in S3 is read with requests that a service accepts whatever its key is, its
 * version is pinned where there is one, and each refusal has its own line without a secret.
 * Method: a service of the test's own that judges each signature by itself; tables of keys and
 * refusals.
 */
import dns from 'node:dns';
import t from 'tap';
import { failure, OBJECT, OBJECT_BYTES, readRange } from '../support/http-origin.ts';
import type { Refused } from '../support/s3-origin.ts';
import { GOOD, KEYS, openObject, SECRET, s3Origin, VERSION } from '../support/s3-source.ts';

const TEXT = 's3://images/disk.img';

t.test('ranges are read with signatures of their own', async (t) => {
  const origin = await s3Origin(t);
  const source = await openObject(t, origin);
  t.strictSame(source.identity, {
    sizeBytes: BigInt(OBJECT_BYTES),
    etag: '"v1"',
    lastModified: '',
  });
  for (const [offset, length] of [
    [0, 512],
    [512, 1024],
    [OBJECT_BYTES - 1, 1],
  ] as const) {
    const { line, into } = await readRange(source, offset, length);
    t.equal(line, '');
    t.strictSame(into, OBJECT.slice(offset, offset + length));
  }
  t.strictSame(origin.answers, ['206', '206', '206', '206']);
  t.strictSame(
    origin.requests.map(({ method, headers }) => [method, headers.range, headers['if-match']]),
    [
      ['GET', 'bytes=0-0', undefined],
      ['GET', 'bytes=0-511', '"v1"'],
      ['GET', 'bytes=512-1535', '"v1"'],
      ['GET', 'bytes=4095-4095', '"v1"'],
    ],
  );
  t.notMatch(JSON.stringify(origin.requests.map(({ headers }) => headers)), SECRET);
});

const KEYS_OF_OBJECTS = [
  'disk.img',
  'a b/c+d=e&f',
  '/leading//double/',
  "é(')*!~._-",
  '100%/ü?#[]@:;,$',
  '\u{1f4be} disk',
  '%41',
];

t.test('every key is found as it is, in both styles of address', async (t) => {
  for (const key of KEYS_OF_OBJECTS) {
    const origin = await s3Origin(t, { key });
    const target = `s3://images/${encodeURIComponent(key)}`;
    await openObject(t, origin, { target });
    t.strictSame(origin.answers, ['206'], key);
  }
  const { lookup } = dns;
  t.teardown(() => {
    dns.lookup = lookup;
  });
  dns.lookup = ((_name: string, options: object, done: typeof lookup) =>
    lookup('127.0.0.1', options, done as never)) as typeof lookup;
  for (const key of KEYS_OF_OBJECTS) {
    const origin = await s3Origin(t, { key });
    const target = `s3://images/${encodeURIComponent(key)}`;
    const endpoint = origin.base.replace('127.0.0.1', 's3.example');
    await openObject(t, origin, { target, s3: { endpoint, addressingStyle: 'virtual' } });
    t.strictSame(origin.answers, ['206'], key);
    t.match(origin.requests[0]?.headers.host, /^images\.s3\.example:/);
  }
  const origin = await s3Origin(t);
  const s3 = { endpoint: origin.base, addressingStyle: 'virtual' } as const;
  const line = (await failure(openObject(t, origin, { s3 })))?.line;
  t.match(line, /no address at its endpoint.*--s3-addressing-style path.*UNBD_USAGE/);
});

t.test('a session token goes along, and an anonymous request has nothing', async (t) => {
  const keys = [{ ...KEYS, token: 'a/long+token==' }];
  const origin = await s3Origin(t, { keys });
  const fetchCredentials = async () => ({ ...GOOD, sessionToken: 'a/long+token==' });
  await openObject(t, origin, { fetchCredentials });
  t.strictSame(origin.answers, ['206']);
  const open = await s3Origin(t, { isPublic: true });
  const never = async () => {
    throw new Error('nobody asks for credentials');
  };
  const anonymous = { s3: { anonymous: true, endpoint: open.base }, fetchCredentials: never };
  t.equal((await readRange(await openObject(t, open, anonymous), 0, 512)).line, '');
  t.strictSame(
    open.requests.map(({ headers }) => [headers.authorization, headers['x-amz-date']]),
    [
      [undefined, undefined],
      [undefined, undefined],
    ],
  );
});

t.test('a version is pinned, and read on when the key has another one', async (t) => {
  const versions = [{ ...VERSION, id: 'one+/=' }];
  const origin = await s3Origin(t, { versions });
  const source = await openObject(t, origin);
  t.equal(source.identity.versionId, 'one+/=');
  versions.push({ id: 'two', etag: '"v2"', bytes: OBJECT.slice().reverse() });
  const { line, into } = await readRange(source, 512, 512);
  t.equal(line, '');
  t.strictSame(into, OBJECT.slice(512, 1024));
  const { identity: expected } = source;
  const successor = await openObject(t, origin, { expected });
  t.strictSame((await readRange(successor, 0, 512)).into, OBJECT.slice(0, 512));
  const second = await openObject(t, origin, { target: `${TEXT}?versionId=two` });
  t.equal(second.identity.etag, '"v2"');
  versions.shift();
  t.match(await readRange(source, 0, 512), {
    line: /its version was deleted.*UNBD_OBJECT_CHANGED/,
    error: { isFinal: true },
  });
});

t.test('an object without versions that is overwritten is another one, for ever', async (t) => {
  const versions = [VERSION];
  const origin = await s3Origin(t, { versions });
  const source = await openObject(t, origin);
  t.notOk('versionId' in source.identity, 'null is no version');
  versions[0] = { id: 'null', etag: '"v2"', bytes: OBJECT.slice().reverse() };
  const { line, error, landedBytes } = await readRange(source, 0, 512);
  t.match(line, /is another object now.*UNBD_OBJECT_CHANGED/);
  t.match(error, { isFinal: true });
  t.equal(landedBytes, 0);
});

t.test('another version in place of the pinned one is a wrong answer', async (t) => {
  const versions = [{ ...VERSION, id: 'one' }];
  const origin = await s3Origin(t, { versions });
  const source = await openObject(t, origin);
  versions[0] = { ...VERSION, id: 'two' };
  origin.state.ignoresVersions = true;
  const { line, landedBytes } = await readRange(source, 0, 512);
  t.match(line, /another version than the one asked for.*UNBD_BACKEND_PROTOCOL/);
  t.equal(landedBytes, 0);
});

const REFUSALS: readonly (readonly [refused: Refused, line: RegExp])[] = [
  [{ status: 403, code: 'AccessDenied' }, /403 AccessDenied: .*s3:GetObject.*EXPORT_REFUSED/],
  [{ status: 403, code: 'InvalidAccessKeyId' }, /access key is not known.*EXPORT_REFUSED/],
  [{ status: 403, code: 'SignatureDoesNotMatch' }, /secret access key is not.*EXPORT_REFUSED/],
  [{ status: 400, code: 'ExpiredToken' }, /token has expired.*aws sso login.*EXPORT_REFUSED/],
  [{ status: 403, code: 'RequestTimeTooSkewed' }, /clock.*set the clock.*EXPORT_REFUSED/],
  [{ status: 404, code: 'NoSuchKey' }, /no such key.*EXPORT_UNKNOWN/],
  [{ status: 404, code: 'NoSuchBucket' }, /no such bucket.*EXPORT_UNKNOWN/],
  [{ status: 404, code: 'NoSuchVersion' }, /no such version.*EXPORT_UNKNOWN/],
  [{ status: 403, code: 'InvalidObjectState' }, /archived.*restore.*EXPORT_UNUSABLE/],
  [
    { status: 404, code: 'NoSuchKey', headers: { 'x-amz-delete-marker': 'true' } },
    /was deleted.*versionId.*EXPORT_UNKNOWN/,
  ],
  [{ status: 301, code: 'PermanentRedirect' }, /another region.*--s3-region.*EXPORT_REFUSED/],
  [{ status: 503, code: 'SlowDown' }, /SlowDown.*too much to do.*BACKEND_IO/],
  [{ status: 500, code: 'InternalError' }, /InternalError.*it failed.*BACKEND_IO/],
  [{ status: 400, code: 'InvalidRequest' }, /InvalidRequest.*was refused.*EXPORT_REFUSED/],
  [{ status: 403, code: '&secret;' }, /403: it may not be read.*EXPORT_REFUSED/],
];

t.test('each refusal has its own line, with a cure and without a secret', async (t) => {
  for (const [refused, line] of REFUSALS) {
    const origin = await s3Origin(t, { refuse: () => refused });
    const error = await failure(openObject(t, origin));
    t.match(error?.line, line, refused.code);
    t.match(error?.line, TEXT);
    t.ok(error?.hint, 'has a cure');
    t.notMatch(error?.line, KEYS.id);
    t.ok(origin.answers.length <= 2, 'and at most one more attempt');
  }
  const slow = { status: 503, code: 'SlowDown', headers: { 'Retry-After': '7' } };
  const origin = await s3Origin(t, { refuse: () => slow });
  t.match(await failure(openObject(t, origin)), { isOverload: true, retryAfterMs: 7000 });
});

t.test('a refusal is heard no further than 64 KiB, and XML in it stands for nothing', async (t) => {
  const bomb = `<!DOCTYPE a [<!ENTITY b "${'c'.repeat(1000)}">]>`.repeat(5000);
  const origin = await s3Origin(t, {
    refuse: () => ({ status: 403, code: 'AccessDenied', more: bomb }),
  });
  const error = await failure(openObject(t, origin));
  t.match(error?.line, /403 AccessDenied/);
  t.ok((error?.line.length ?? 0) < 500);
});
