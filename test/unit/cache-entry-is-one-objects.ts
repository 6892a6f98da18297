/**
 * Claim: an entry of the cache on disk is of one version of one object, holds no secret, is open
 * for its user alone, and never keeps a device from living.
 * Method: openCache over folders of the test's own, a fake of the addon and a clock by hand.
 */
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { entryName } from '../../src/gateway/cache-meta.ts';
import {
  CHUNK_BYTES,
  identity,
  keyFor,
  makeEntry,
  URL_TEXT,
  world,
} from '../support/fake-cache.ts';

/** Everything that stands in files and names below `directory`. */
function contentOf(directory: string): string {
  const names = readdirSync(directory, { recursive: true }).map(String);
  const texts = names.filter((name) => lstatSync(join(directory, name)).isFile());
  return [...names, ...texts.map((name) => readFileSync(join(directory, name), 'latin1'))].join();
}

function mode(path: string): number {
  return lstatSync(path).mode & 0o777;
}

t.test('signatures and credentials do not matter; path, query, size and version do', async (t) => {
  const key = keyFor(URL_TEXT);
  t.match(key, /^[0-9a-f]{64}$/);
  for (const same of [
    `${URL_TEXT}?X-Amz-Signature=s3cret&x-amz-date=1`,
    'https://me:s3cret@images.example/disk.img#x',
  ]) {
    t.equal(keyFor(same), key, same);
  }
  t.equal(keyFor(URL_TEXT, { lastModified: 'Thu, 01 Jan 2026 00:00:00 GMT' }), key, 'ETag decides');
  const others = [
    keyFor('https://images.example/other.img'),
    keyFor('https://images.example:8443/disk.img'),
    keyFor('http://images.example/disk.img'),
    keyFor(`${URL_TEXT}?file=a`),
    keyFor(`${URL_TEXT}?file=b&X-Amz-Signature=s3cret`),
    keyFor(URL_TEXT, { etag: '"two"' }),
    keyFor(URL_TEXT, { sizeBytes: 41n * 2n ** 20n }),
    keyFor(URL_TEXT, { etag: '', lastModified: 'Thu, 01 Jan 2026 00:00:00 GMT' }),
    keyFor(URL_TEXT, { etag: '', lastModified: 'Fri, 02 Jan 2026 00:00:00 GMT' }),
  ];
  t.equal(new Set([key, ...others]).size, others.length + 1);
});

t.test('an entry is its user’s alone, and says what it is of without a secret', async (t) => {
  const directory = join(t.testdir(), 'cache');
  const { files, open, warnings } = world(directory);
  const url = `${URL_TEXT}?X-Amz-Signature=s3cret`;
  const cache = await open({
    url,
    options: { cacheDirectory: directory, cacheSizeBytes: 2 ** 30 },
  });
  const key = keyFor(URL_TEXT);
  const folder = join(directory, entryName(key));
  const spec = { directory: folder, sizeBytes: 40n * 2n ** 20n, chunkBytes: CHUNK_BYTES, key };
  t.strictSame(files.specs, [spec]);
  t.equal(cache?.limitBytes, 2n ** 30n);
  t.strictSame(warnings, []);
  t.equal(mode(directory), 0o700);
  t.equal(mode(folder), 0o700);
  t.equal(mode(join(folder, 'meta.json')), 0o600);
  const meta = JSON.parse(readFileSync(join(folder, 'meta.json'), 'utf8'));
  const { madeAt, ...rest } = meta;
  t.strictSame(rest, {
    version: 1,
    url: URL_TEXT,
    query: '',
    etag: '"one"',
    lastModified: '',
    sizeBytes: 40 * 2 ** 20,
    chunkBytes: CHUNK_BYTES,
  });
  t.equal(new Date(madeAt).toISOString(), madeAt);
  t.notMatch(contentOf(directory), 's3cret');
  t.strictSame(readdirSync(folder).sort(), ['data', 'map', 'meta.json'], 'nothing temporary');
  cache?.close();
  cache?.close();
  t.equal(files.locked.size, 0);

  await open();
  t.equal(JSON.parse(readFileSync(join(folder, 'meta.json'), 'utf8')).madeAt, madeAt, 'it is kept');
});

t.test('without --cache nothing is opened, and without a size there is a default', async (t) => {
  const { files, open } = world(t.testdir());
  t.equal(await open({ options: {} }), undefined);
  t.equal(files.specs.length, 0);
  t.equal((await open())?.limitBytes, 10n * 2n ** 30n);
});

t.test('an object without a validator stays in memory, and the log says why', async (t) => {
  const directory = t.testdir();
  const { files, open, warnings } = world(directory);
  t.equal(await open({ identity: identity({ etag: '' }) }), undefined);
  t.equal(files.specs.length, 0);
  t.strictSame(readdirSync(directory), []);
  t.match(warnings, [/not used: .*no strong ETag and no Last-Modified/]);
});

t.test('a lock that a predecessor gives back in time is taken', async (t) => {
  const directory = t.testdir();
  const { files, warnings, open } = world(directory);
  const folder = makeEntry(directory, URL_TEXT);
  files.locked.add(folder);
  files.onAttempt = (attempt) => {
    if (attempt === 50) files.locked.delete(folder);
  };
  t.ok(await open({ isSuccessor: true }));
  t.equal(files.specs.length, 50);
  t.strictSame(warnings, []);
});

t.test('an entry that another process keeps is left to it after five seconds', async (t) => {
  for (const isSuccessor of [false, true]) {
    const directory = t.testdir();
    const { files, clock, warnings, open } = world(directory);
    files.locked.add(makeEntry(directory, URL_TEXT));
    const startedAtMs = clock.now();
    t.equal(await open({ isSuccessor }), undefined);
    t.equal(clock.now() - startedAtMs, 5_000);
    t.equal(files.specs.length, 51);
    t.match(warnings, [/not used: another process has the entry/]);
  }
});

t.test('a folder that cannot be used fails a connect, and warns a successor', async (t) => {
  const root = t.testdir({ file: '' });
  const cases = [
    [join(root, 'missing/cache'), undefined, 'UNBD_USAGE', /is missing/],
    [join(root, 'file'), undefined, 'UNBD_USAGE', /no folder/],
    [join(root, 'file/cache'), undefined, 'UNBD_USAGE', /no folder/],
    [join(root, 'a'), 'EACCES', 'UNBD_NO_PERMISSION', /may not/],
    [join(root, 'b'), 'EROFS', 'UNBD_USAGE', /read-only/],
    [join(root, 'c'), 'ENOSPC', 'UNBD_USAGE', /full/],
    [join(root, 'd'), 'EIO', 'UNBD_USAGE', /EIO/],
  ] as const;
  for (const [cacheDirectory, errno, code, message] of cases) {
    const { files, warnings, open } = world(root);
    if (errno !== undefined) files.errnos.set('*', errno);
    const options = { cacheDirectory };
    await t.rejects(open({ options }), { code, message, hint: /\w/ }, `${cacheDirectory} ${errno}`);
    t.strictSame(warnings, []);
    t.equal(await open({ options, isSuccessor: true }), undefined);
    t.match(warnings, [message]);
    t.equal(files.locked.size, 0);
  }
  t.notOk(existsSync(join(root, 'missing')), 'only the last part is made');
});

t.test('what fails after the lock gives it back', async (t) => {
  const directory = t.testdir();
  const { files, open } = world(directory);
  const folder = join(directory, entryName(keyFor(URL_TEXT)));
  // Nothing can be renamed to it.
  mkdirSync(join(folder, 'meta.json'), { recursive: true });
  writeFileSync(join(folder, 'meta.json/x'), '');
  await t.rejects(open(), { code: 'UNBD_USAGE' });
  t.equal(files.specs.length, 1);
  t.equal(files.locked.size, 0);
});

t.test('a symbolic link or somebody else’s folder is refused', async (t) => {
  const directory = t.testdir({ elsewhere: {} });
  const { files, open } = world(directory);
  const folder = join(directory, entryName(keyFor(URL_TEXT)));
  symlinkSync(join(directory, 'elsewhere'), folder);
  await t.rejects(open(), { code: 'UNBD_NO_PERMISSION', message: /not a folder of this user/ });
  t.equal(files.specs.length, 0);
  t.strictSame(readdirSync(join(directory, 'elsewhere')), []);
  if (process.geteuid?.() !== 0) return;
  const foreign = makeEntry(directory, `${URL_TEXT}2`);
  chownSync(foreign, 12345, 12345);
  await t.rejects(open({ url: `${URL_TEXT}2` }), { code: 'UNBD_NO_PERMISSION' });
  t.equal(files.specs.length, 0);
});

t.test('a folder that others may enter is closed to them, and a broken meta mended', async (t) => {
  const directory = t.testdir();
  const { open } = world(directory);
  const folder = makeEntry(directory, URL_TEXT);
  chmodSync(folder, 0o755);
  writeFileSync(join(folder, 'meta.json'), '{');
  t.ok(await open());
  t.equal(mode(folder), 0o700);
  t.equal(JSON.parse(readFileSync(join(folder, 'meta.json'), 'utf8')).url, URL_TEXT);
});
