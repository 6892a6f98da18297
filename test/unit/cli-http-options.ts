/**
 * Claim: the options of images on web servers arrive as bytes and whole paths, and are refused
 * where they make no sense.
 * Method: the command line in this process, over a gateway that records its calls.
 */
import { resolve } from 'node:path';
import t from 'tap';
import { connectWith } from '../support/cli.ts';

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

t.test('other targets have none of them', async (t) => {
  for (const option of [
    ...['--cache-memory=1G', '--cache=x', '--cache-size=1G', '--header-file=x', '--ca-file=x'],
  ]) {
    const { status, stderr } = await connectWith('backup.example', option);
    t.equal(status, 2, option);
    t.match(stderr, /is for HTTP images.*\[UNBD_USAGE\]\n$/, option);
  }
});
