/**
 * Claim: what one more request mends is mended within a read: the region, a clock, a redirect
 * within the service, credentials that have expired; and nothing is tried for ever.
 * Method: a service of the test's own that judges each signature, with times that the test gives.
 */
import t from 'tap';
import { keyOf, metaOf } from '../../src/gateway/cache-meta.ts';
import type { AwsCredentials } from '../../src/protocols/s3/credentials.ts';
import { mayLeadTo, objectName, objectUrl } from '../../src/protocols/s3/endpoint.ts';
import { failure, rawOrigin, readRange } from '../support/http-origin.ts';
import { GOOD, KEYS, openObject, SECRET, s3Origin } from '../support/s3-source.ts';

t.test('the right region is learned, and asked at once from then on', async (t) => {
  const origin = await s3Origin(t, { region: 'eu-west-1' });
  const source = await openObject(t, origin);
  t.equal((await readRange(source, 0, 512)).line, '');
  t.strictSame(origin.answers, ['AuthorizationHeaderMalformed', '206', '206']);
  const moved = await s3Origin(t, { region: 'eu-west-1' });
  moved.state.refuse = ({ headers }) =>
    String(headers.authorization).includes('us-east-1')
      ? { status: 301, code: 'PermanentRedirect', headers: { 'x-amz-bucket-region': 'eu-west-1' } }
      : undefined;
  await openObject(t, moved);
  t.strictSame(moved.answers, ['PermanentRedirect', '206']);
  const named = await s3Origin(t, { region: 'eu-west-1' });
  await openObject(t, named, { s3: { endpoint: named.base, region: 'eu-west-1' } });
  t.strictSame(named.answers, ['206']);
});

t.test('a region that changes with every answer ends in a refusal', async (t) => {
  let count = 0;
  const origin = await s3Origin(t, {
    refuse: () => {
      count += 1;
      const headers = { 'x-amz-bucket-region': `region-${count}` };
      return { status: 400, code: 'AuthorizationHeaderMalformed', headers };
    },
  });
  t.match((await failure(openObject(t, origin)))?.line, /another region.*UNBD_EXPORT_REFUSED/);
  t.equal(count, 2);
});

t.test('a clock that is wrong is put right by what the origin says', async (t) => {
  for (const aheadMs of [3_600_000, -86_400_000]) {
    const origin = await s3Origin(t, { aheadMs });
    const source = await openObject(t, origin);
    t.equal((await readRange(source, 0, 512)).line, '');
    t.strictSame(origin.answers, ['RequestTimeTooSkewed', '206', '206']);
  }
});

t.test('a refusal that drips is not waited for', async (t) => {
  const base = await rawOrigin(t, (socket) => {
    socket.write('HTTP/1.1 503 Slow Down\r\nContent-Length: 60000\r\n\r\n');
    const drip = setInterval(() => socket.write('<'), 2);
    socket.on('close', () => clearInterval(drip));
  });
  const attempts = [1, 2, 3, 4].map(() => openObject(t, { base }, { timeoutMs: 500 }));
  for (const refused of await Promise.all(attempts.map(failure))) {
    t.match(refused?.line, /did not say within 500 ms why it refuses.*UNBD_BACKEND_TIMEOUT/);
  }
});

t.test('a redirect is followed within the service, signed anew, and nowhere else', async (t) => {
  const origin = await s3Origin(t);
  origin.state.refuse = ({ url }) =>
    url?.includes('moved')
      ? undefined
      : {
          ...{ status: 307, code: 'TemporaryRedirect' },
          headers: { Location: `${origin.base}/images/moved.img` },
        };
  origin.state.key = 'moved.img';
  await openObject(t, origin);
  t.strictSame(origin.answers, ['TemporaryRedirect', '206']);
  const strange = await s3Origin(t);
  origin.state.refuse = () => ({
    ...{ status: 307, code: 'TemporaryRedirect' },
    headers: { Location: strange.base.replace('127.0.0.1', 'localhost') },
  });
  t.match((await failure(openObject(t, origin)))?.line, /not followed.*--s3-endpoint.*REFUSED/);
  t.equal(strange.requests.length, 0);
});

t.test('an address has the style that suits, and redirects stay with their service', async (t) => {
  const disk = { bucket: 'images', key: 'a b' };
  const at = (...words: Parameters<typeof objectUrl>) => objectUrl(...words).href;
  t.equal(at(disk, {}, 'eu-west-1'), 'https://images.s3.eu-west-1.amazonaws.com/a%20b');
  t.equal(at(disk, {}, 'cn-north-1'), 'https://images.s3.cn-north-1.amazonaws.com.cn/a%20b');
  t.equal(
    at({ ...disk, bucket: 'a.b' }, {}, 'eu-west-1', 'v+1'),
    'https://s3.eu-west-1.amazonaws.com/a.b/a%20b?versionId=v%2B1',
  );
  const path = { addressingStyle: 'path' } as const;
  t.equal(at(disk, path, 'eu-west-1'), 'https://s3.eu-west-1.amazonaws.com/images/a%20b');
  const endpoint = 'https://ceph.example:8443/s3';
  t.equal(at(disk, { endpoint }, 'x'), 'https://ceph.example:8443/s3/images/a%20b');
  const virtual = { endpoint, addressingStyle: 'virtual' } as const;
  t.equal(at(disk, virtual, 'x'), 'https://images.ceph.example:8443/s3/a%20b');
  const leads = (from: string, to: string, end?: string) =>
    mayLeadTo(new URL(from), new URL(to), end);
  const aws = 'https://images.s3.us-east-1.amazonaws.com/a';
  t.ok(leads(aws, 'https://images.s3.eu-west-1.amazonaws.com/a'));
  t.notOk(leads(aws, 'http://images.s3.eu-west-1.amazonaws.com/a'));
  t.notOk(leads(aws, 'https://amazonaws.com.example/a'));
  t.notOk(leads(aws, 'https://notamazonaws.com/a'));
  t.ok(leads(endpoint, 'https://images.ceph.example/a', endpoint));
  t.notOk(leads(endpoint, 'https://notceph.example/a', endpoint));
});

t.test('the cache on disk knows an object by service, bucket, key and named version', async (t) => {
  const identity = { sizeBytes: 4096n, etag: '"v1"', lastModified: '' };
  const key = (...words: Parameters<typeof objectName>) =>
    keyOf(metaOf(objectName(...words), identity, 2 ** 20));
  const disk = { bucket: 'images', key: 'disk.img' };
  const endpoint = 'https://ceph.example:8443/s3';
  const keys = [
    key(disk, undefined),
    key(disk, endpoint),
    key({ ...disk, bucket: 'other' }, undefined),
    key({ ...disk, key: 'other' }, undefined),
    key({ ...disk, versionId: 'one' }, undefined),
    key({ ...disk, versionId: 'two' }, undefined),
  ];
  t.equal(new Set(keys).size, keys.length);
  const { url, query } = metaOf(objectName({ ...disk, versionId: 'one' }, endpoint), identity, 1);
  t.equal(url, 'https://ceph.example:8443/s3/images/disk.img');
  t.match(query, /^[0-9a-f]{64}$/);
});

/** Sessions that end; `fetched` counts how often somebody asked for the next one. */
function sessions(lifeMs: number, now: () => number) {
  const world = {
    fetched: 0,
    fails: false,
    fetch: async (): Promise<AwsCredentials> => {
      world.fetched += 1;
      if (world.fails) throw new Error('no more');
      const expiration = new Date(now() + lifeMs);
      return { ...GOOD, sessionToken: `token-${world.fetched}`, expiration };
    },
  };
  return world;
}

t.test('a session that was ended early is replaced within the read, by one call', async (t) => {
  const world = sessions(3_600_000, Date.now);
  const origin = await s3Origin(t, { keys: [{ ...KEYS, token: 'token-1' }] });
  const source = await openObject(t, origin, { fetchCredentials: world.fetch });
  origin.state.keys = [{ ...KEYS, token: 'token-2' }];
  origin.state.expiredTokens = ['token-1'];
  const reads = [0, 512, 1024, 1536].map((offset) => readRange(source, offset, 512));
  for (const { line } of await Promise.all(reads)) t.equal(line, '');
  t.equal(world.fetched, 2, 'four reads, one call');
  origin.state.keys = [{ ...KEYS, token: 'token-9' }];
  origin.state.expiredTokens = ['token-2', 'token-3'];
  t.match((await readRange(source, 0, 512)).line, /has expired.*UNBD_EXPORT_REFUSED/);
  t.equal(world.fetched, 3, 'once in a read');
});

t.test('the next session is fetched before the last one ends, and a failure waits', async (t) => {
  const clock = { nowMs: Date.now() };
  const now = () => clock.nowMs;
  const world = sessions(3_600_000, now);
  const origin = await s3Origin(t, { keys: [{ ...KEYS, token: 'token-1' }] });
  const source = await openObject(t, origin, { fetchCredentials: world.fetch, now });
  const read = async (afterMs: number): Promise<string> => {
    clock.nowMs += afterMs;
    origin.state.aheadMs += afterMs;
    return (await readRange(source, 0, 512)).line;
  };
  t.equal(await read(50 * 60_000), '');
  t.equal(world.fetched, 1);
  world.fails = true;
  t.equal(await read(6 * 60_000), '', 'the old one is good');
  t.equal(world.fetched, 2);
  t.equal(await read(1000), '');
  t.equal(world.fetched, 2, 'not at each request');
  world.fails = false;
  t.equal(await read(60_000), '', 'still the old one');
  t.equal(world.fetched, 3);
  origin.state.keys = [{ ...KEYS, token: 'token-3' }];
  origin.state.expiredTokens = ['token-1'];
  t.equal(await read(0), '');
  t.equal(world.fetched, 3, 'the next one was there');
  t.strictSame(
    origin.answers.filter((code) => code !== '206'),
    [],
    'nothing was refused',
  );
});

t.test('credentials that nobody gives in time end the wait, and are asked for once', async (t) => {
  const origin = await s3Origin(t);
  let asked = 0;
  const fetchCredentials = (): Promise<AwsCredentials> => {
    asked += 1;
    return new Promise(() => undefined);
  };
  const expected = { sizeBytes: 4096n, etag: '"v1"', lastModified: '' };
  const source = await openObject(t, origin, { fetchCredentials, timeoutMs: 100, expected });
  for (const _ of [0, 1]) {
    const { line } = await readRange(source, 0, 512);
    t.match(line, /gave none within 100 ms.*UNBD_BACKEND_TIMEOUT/);
    t.notMatch(line, SECRET);
  }
  t.equal(asked, 1);
});
