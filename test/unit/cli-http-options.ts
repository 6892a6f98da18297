/**
 * Claim: the options of images on web servers arrive as bytes and whole paths, and are refused
 * where they make no sense.
 * Method: the command line in this process, over a gateway that records its calls.
 */
import { resolve } from 'node:path';
import t from 'tap';
import type { Gateway } from '../../bin/gateway.ts';
import { progressLine } from '../../bin/progress.ts';
import { cli, connectWith, deviceView } from '../support/cli.ts';

const URL_TEXT = 'http://images.example/disk.img';

t.test('they arrive, paths as seen from anywhere', async (t) => {
  const typed = ['--cache-memory', '1G', '--header-file', 'headers', '--ca-file', '/etc/ca.pem'];
  t.match((await connectWith(URL_TEXT, ...typed)).options, {
    target: { kind: 'http', url: URL_TEXT, text: URL_TEXT },
    cacheMemoryBytes: 2 ** 30,
    headerFile: resolve('headers'),
    caFile: '/etc/ca.pem',
  });
});

t.test('a size that is none, too small or too large is refused', async (t) => {
  for (const size of ['soon', '1.5G', '3M', '5G', '-4M', '']) {
    const { status, stderr } = await connectWith(URL_TEXT, `--cache-memory=${size}`);
    t.equal(status, 2, size);
    t.match(stderr, /4M to 4G.*\[UNBD_USAGE\]\n$/, size);
  }
  for (const [words, why] of [
    [['--fill-unit=32K'], /fill-unit '32K' cannot be used; write 64K/],
    [['--fill-unit=32M'], /fill-unit '32M' cannot be used/],
    [['--fill-unit=96K'], /fill-unit '96K' is no power of two/],
    [['--fill-unit=2M', '--cache-memory=4M'], /'4M' has no room for four fill units of 2M/],
  ] as const) {
    const { status, stderr } = await connectWith(URL_TEXT, ...words);
    t.equal(status, 2);
    t.match(stderr, why);
  }
  const both = await connectWith(URL_TEXT, '--fill-unit=1024k', '--cache-memory=4M');
  t.match(both.options, { fillUnitBytes: 2 ** 20, cacheMemoryBytes: 2 ** 22 });
  t.match((await connectWith(URL_TEXT, '--fill-unit=16M')).options, { fillUnitBytes: 2 ** 24 });
  t.match((await connectWith(URL_TEXT, '--cache-memory=4m')).options, {
    cacheMemoryBytes: 4 * 2 ** 20,
  });
});

t.test('a folder on disk arrives as seen from anywhere, its size in bytes', async (t) => {
  const { options: alone } = await connectWith(URL_TEXT, '--cache', 'kept/here');
  t.match(alone, { cacheDirectory: resolve('kept/here') });
  t.notOk(alone !== undefined && 'cacheSizeBytes' in alone, 'the server process has the default');
  t.match((await connectWith(URL_TEXT, '--cache=/c', '--cache-size', '64m')).options, {
    cacheDirectory: '/c',
    cacheSizeBytes: 64 * 2 ** 20,
  });
  t.match((await connectWith(URL_TEXT, '--cache=/c', '--cache-size=9007199254740991')).options, {
    cacheSizeBytes: Number.MAX_SAFE_INTEGER,
  });
});

t.test('a size on disk that is none, too small or too large is refused', async (t) => {
  for (const size of ['soon', '1.5G', '63M', '9007199254740992', '9999999T', '-1G', '']) {
    const { status, stderr } = await connectWith(URL_TEXT, '--cache=/c', `--cache-size=${size}`);
    t.equal(status, 2, size);
    t.match(stderr, /64M to 8191T.*\[UNBD_USAGE\]\n$/, size);
  }
});

t.test('a size on disk needs a folder, and a folder a name', async (t) => {
  const { status, stderr } = await connectWith(URL_TEXT, '--cache-size=1G');
  t.equal(status, 2);
  t.match(stderr, /add --cache DIR \[UNBD_USAGE\]\n$/);
  const empty = await connectWith(URL_TEXT, '--cache=');
  t.equal(empty.status, 2);
  t.match(empty.stderr, /write --cache DIR \[UNBD_USAGE\]\n$/);
});

t.test('what is prefetched needs a folder, and a rate something to prefetch', async (t) => {
  t.match((await connectWith(URL_TEXT, '--cache=/c', '--prefetch=full')).options, {
    prefetch: 'full',
    prefetchBytesPerS: undefined,
  });
  const rated = ['--cache=/c', '--prefetch', 'full', '--prefetch-rate', '20M'];
  t.match((await connectWith(URL_TEXT, ...rated)).options, { prefetchBytesPerS: 20 * 2 ** 20 });
  t.match((await connectWith(URL_TEXT, '--prefetch=none')).options, { prefetch: 'none' });
  const refusals = [
    [['--prefetch=full'], /add --cache DIR \[UNBD_USAGE\]/],
    [['--prefetch-rate=1M'], /add --prefetch full \[UNBD_USAGE\]/],
    [['--cache=/c', '--prefetch=none', '--prefetch-rate=1M'], /add --prefetch full/],
    [['--cache=/c', '--prefetch=full', '--prefetch-rate=63K'], /64K to 1T.*\[UNBD_USAGE\]/],
    [['--cache=/c', '--prefetch=full', '--prefetch-rate=2T'], /64K to 1T.*\[UNBD_USAGE\]/],
    [['--cache=/c', '--prefetch=half'], /\[UNBD_USAGE\]/],
  ] as const;
  for (const [typed, message] of refusals) {
    const { status, stderr } = await connectWith(URL_TEXT, ...typed);
    t.equal(status, 2, typed.join(' '));
    t.match(stderr, message, typed.join(' '));
  }
});

t.test('what is downloaded first needs a folder, and shows how far it is', async (t) => {
  const { status, stderr } = await connectWith(URL_TEXT, '--spool');
  t.equal(status, 2);
  t.match(stderr, /add --cache DIR \[UNBD_USAGE\]/);
  t.match((await connectWith(URL_TEXT, '--cache=/c', '--spool')).options, { spool: true });
  const lines: (string | undefined)[] = [];
  const connect: Gateway['connect'] = async (_options, _signal, onProgress) => {
    onProgress?.('download: 5 %');
    return deviceView();
  };
  const progress = (text: string | undefined): void => void lines.push(text);
  const typed = ['connect', URL_TEXT, '--cache=/c'];
  await cli(typed, { gateway: { connect }, progress });
  t.notOk(lines.includes('download: 5 %'), 'nothing takes long');
  lines.splice(0);
  await cli([...typed, '--spool'], { gateway: { connect }, progress });
  t.equal(lines[0], 'download: 5 %');
  t.ok(lines.length > 1 && lines.slice(1).every((line) => line === undefined), 'and is gone');
  t.equal(progressLine('0123456789', 5), '\r0123\u001b[K', 'it is one line, however narrow');
});

t.test('a proxy arrives as its origin, and is refused with a secret', async (t) => {
  const { options } = await connectWith(URL_TEXT, '--proxy', 'http://proxy.example:3128/');
  t.match(options, { proxy: 'http://proxy.example:3128' });
  const { status, stderr } = await connectWith(URL_TEXT, '--proxy', 'http://u:hunter2@proxy');
  t.equal(status, 2);
  t.match(stderr, /user name or password.*\[UNBD_USAGE\]/);
  t.match(stderr, /--proxy-header-file/);
  t.notMatch(stderr, /hunter2/);
  const typed = ['--proxy=http://proxy', '--proxy-header-file', 'proxy.headers'];
  const withFile = await connectWith(URL_TEXT, ...typed);
  t.match(withFile.options, { proxy: 'http://proxy', proxyHeaderFile: resolve('proxy.headers') });
  const alone = await connectWith(URL_TEXT, '--proxy-header-file', 'proxy.headers');
  t.equal(alone.status, 2);
  t.match(alone.stderr, /--proxy-header-file is for a proxy; add --proxy/);
});

t.test('info reaches an origin as connect does', async (t) => {
  let seen: unknown;
  const info = async (_target: unknown, _signal: unknown, origin: unknown) => {
    seen = origin;
    return { target: URL_TEXT, backend: {} as never };
  };
  const typed = ['--proxy', 'http://proxy:3128', '--ca-file', '/ca.pem', '--header-file', '/h'];
  await cli(['info', URL_TEXT, ...typed], { gateway: { info: info as never } });
  t.strictSame(seen, { proxy: 'http://proxy:3128', caFile: '/ca.pem', headerFile: '/h' });
  const { status, stderr } = await cli(['info', 'backup.example', '--ca-file', '/ca.pem']);
  t.equal(status, 2);
  t.match(stderr, /--ca-file is for HTTP and S3 images/);
});

t.test('other targets have none of them', async (t) => {
  for (const option of [
    ...['--cache-memory=1G', '--cache=x', '--cache-size=1G', '--header-file=x', '--ca-file=x'],
    '--fill-unit=1M',
    ...['--prefetch=full', '--prefetch-rate=1M', '--spool'],
    ...['--proxy=http://proxy', '--proxy-header-file=x'],
  ]) {
    const { status, stderr } = await connectWith('backup.example', option);
    t.equal(status, 2, option);
    t.match(stderr, /is for HTTP (and S3 )?images.*\[UNBD_USAGE\]\n$/, option);
  }
});
