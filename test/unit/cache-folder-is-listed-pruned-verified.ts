/**
 * Claim: list, prune and verify tell what a folder of the cache on disk holds, leave what is in use
 * and what is no entry alone, and end at nothing that stands in it.
 * Method: a made-up folder with hostile entries, and a fake of the addon.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import t from 'tap';
import { listCache, pruneCache, verifyCache } from '../../src/gateway/cache-folder.ts';
import { FakeCacheFiles, makeEntry, URL_TEXT } from '../support/fake-cache.ts';

const { signal } = new AbortController();

async function all<T>(steps: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const step of steps) found.push(step);
  return found;
}

/** Entries that are none, and must be neither shown nor touched; answers their paths. */
function addStrangers(directory: string, elsewhere: string): readonly string[] {
  const name = (digit: string) => join(directory, digit.repeat(32));
  const target = makeEntry(elsewhere, `${URL_TEXT}?elsewhere`);
  symlinkSync(target, name('a'));
  writeFileSync(name('b'), 'a file');
  mkdirSync(name('c'));
  writeFileSync(join(name('c'), 'data'), 'no meta.json');
  mkdirSync(name('d'));
  symlinkSync(join(target, 'meta.json'), join(name('d'), 'meta.json'));
  mkdirSync(name('e'));
  mkdirSync(join(name('e'), 'meta.json'));
  const noNames = [
    'notes',
    'F'.repeat(32),
    '0'.repeat(31),
    `${'0'.repeat(32)}.img`,
    'g'.repeat(32),
  ];
  for (const word of noNames) {
    mkdirSync(join(directory, word));
    writeFileSync(join(directory, word, 'meta.json'), '{}');
  }
  return [
    ...['a', 'b', 'c', 'd', 'e'].map(name),
    ...noNames.map((word) => join(directory, word)),
    ...['data', 'map', 'meta.json'].map((file) => join(target, file)),
  ];
}

/** One entry of each way to be broken, by why it is. */
function addBroken(directory: string): Readonly<Record<string, string>> {
  const broken = (index: number, break_: (folder: string) => void): string => {
    const folder = makeEntry(directory, `${URL_TEXT}${index}`, {}, 100);
    break_(folder);
    return basename(folder);
  };
  const withMeta = (text: string) => (folder: string) =>
    writeFileSync(join(folder, 'meta.json'), text);
  const moved = makeEntry(directory, `${URL_TEXT}9`, {}, 100);
  renameSync(moved, join(directory, '9'.repeat(32)));
  return {
    'is no JSON': broken(1, withMeta('{')),
    'is no object': broken(2, withMeta('7')),
    'of another version': broken(3, withMeta('{"version":2}')),
    'lacks what it must hold': broken(4, withMeta('{"version":1,"url":"https://h/x?secret"}')),
    'is too long': broken(5, withMeta(' '.repeat(70_000))),
    'its map is missing': broken(6, (folder) => rmSync(join(folder, 'map'))),
    'its files are none': broken(7, (folder) => {
      rmSync(join(folder, 'data'));
      symlinkSync('/etc/passwd', join(folder, 'data'));
    }),
    'of another entry': '9'.repeat(32),
  };
}

t.test('list tells what is there, whatever is in the folder', async (t) => {
  const { directory = '', elsewhere = '' } = folders(t.testdir({ directory: {}, elsewhere: {} }));
  const files = new FakeCacheFiles();
  const free = makeEntry(directory, `${URL_TEXT}?secret`);
  const busy = makeEntry(directory, `${URL_TEXT}-busy`);
  const sick = makeEntry(directory, `${URL_TEXT}-sick`);
  files.locked.add(busy);
  files.errnos.set(sick, 'EIO');
  addStrangers(directory, elsewhere);
  const broken = addBroken(directory);
  const entries = await listCache(directory, files.open);
  const byName = new Map(entries.map((entry) => [entry.name, entry]));
  t.equal(byName.size, 3 + Object.keys(broken).length);
  const whole = byName.get(basename(free));
  t.match(whole, { url: URL_TEXT, sizeBytes: 40 * 2 ** 20, inUse: false, broken: null });
  t.equal(whole?.cachedBytes, 8192);
  t.match(byName.get(basename(busy)), { url: `${URL_TEXT}-busy`, inUse: true, broken: null });
  t.match(byName.get(basename(sick)), { inUse: null, broken: /cannot be opened: EIO/ });
  for (const [why, name] of Object.entries(broken)) {
    t.match(byName.get(name), { inUse: null, broken: new RegExp(why) }, why);
  }
  t.strictSame([...files.locked], [busy], 'what was opened is closed');
  t.equal(files.specs.length, 3, 'what is broken is not opened');
  t.notMatch(JSON.stringify(entries), 'secret');
});

t.test('prune removes what nobody has and nobody used, and nothing else', async (t) => {
  const { directory = '', elsewhere = '' } = folders(t.testdir({ directory: {}, elsewhere: {} }));
  const files = new FakeCacheFiles();
  const fresh = makeEntry(directory, `${URL_TEXT}-fresh`, {}, 29);
  const old = makeEntry(directory, `${URL_TEXT}-old`, {}, 31);
  const busy = makeEntry(directory, `${URL_TEXT}-busy`, {}, 31);
  const half = makeEntry(directory, `${URL_TEXT}-half`);
  renameSync(half, `${half}.removed`);
  files.locked.add(busy);
  const strangers = addStrangers(directory, elsewhere);
  const steps = await all(pruneCache(directory, 30, signal, files.open));
  const outcomes = new Map(steps.map(({ entry, outcome }) => [entry.name, outcome]));
  t.equal(outcomes.get(basename(fresh)), 'recent');
  t.equal(outcomes.get(basename(old)), 'removed');
  t.equal(outcomes.get(basename(busy)), 'in use');
  t.equal(outcomes.size, 3);
  t.notOk(existsSync(old));
  t.ok(existsSync(fresh) && existsSync(busy));
  t.notOk(existsSync(`${half}.removed`), 'what was left of an earlier one goes too');
  t.ok((steps.find(({ outcome }) => outcome === 'removed')?.freedBytes ?? 0) >= 8192);
  t.strictSame([...files.locked], [busy]);

  const broken = addBroken(directory);
  const rest = await all(pruneCache(directory, undefined, signal, files.open));
  t.equal(rest.filter(({ outcome }) => outcome === 'removed').length, 9);
  for (const [why, name] of Object.entries(broken)) {
    t.notOk(existsSync(join(directory, name)), `${why}: removed`);
  }
  t.notOk(existsSync(fresh), 'all is all');
  for (const path of strangers) t.ok(existsSync(path), path);
  t.ok(existsSync('/etc/passwd'));
});

t.test('what holds more than an entry is told, and stays', async (t) => {
  const directory = t.testdir();
  const folder = makeEntry(directory, URL_TEXT);
  writeFileSync(join(folder, 'mine'), '');
  const pruning = all(pruneCache(directory, undefined, signal, new FakeCacheFiles().open));
  await t.rejects(pruning, { code: 'UNBD_USAGE', message: /cannot be removed: ENOTEMPTY/ });
  t.ok(existsSync(`${folder}.removed/mine`));
});

t.test('verify reads every entry that nobody has, a few chunks at a time', async (t) => {
  const directory = t.testdir();
  const files = new FakeCacheFiles();
  files.verdict = { checkedBytes: 1000n, droppedBytes: 1n };
  makeEntry(directory, URL_TEXT);
  const busy = makeEntry(directory, `${URL_TEXT}-busy`);
  const sick = makeEntry(directory, `${URL_TEXT}-sick`);
  rmSync(join(sick, 'map'));
  files.locked.add(busy);
  const steps = await all(verifyCache(directory, signal, files.open));
  const byUrl = new Map(steps.map((step) => [step.entry.url, step]));
  t.match(byUrl.get(URL_TEXT), { outcome: 'checked', checkedBytes: 3000n, droppedBytes: 3n });
  t.match(byUrl.get(`${URL_TEXT}-busy`), { outcome: 'in use', checkedBytes: 0n });
  t.match(byUrl.get(`${URL_TEXT}-sick`), { outcome: 'broken', entry: { broken: /map/ } });
  t.strictSame(files.verified, [
    [0, 16],
    [16, 16],
    [32, 8],
  ]);
  t.strictSame([...files.locked], [busy]);
});

t.test('an interruption ends it between two steps, and gives the lock back', async (t) => {
  const directory = t.testdir();
  const files = new FakeCacheFiles();
  makeEntry(directory, URL_TEXT);
  const stop = new AbortController();
  const verifying = all(verifyCache(directory, stop.signal, files.open));
  files.onAttempt = () => stop.abort();
  await t.rejects(verifying, { code: 'UNBD_INTERRUPTED' });
  t.strictSame(files.verified, [[0, 16]]);
  t.equal(files.locked.size, 0);
  const pruning = all(pruneCache(directory, undefined, stop.signal, files.open));
  await t.rejects(pruning, { code: 'UNBD_INTERRUPTED' });
  t.equal(readdirSync(directory).length, 1);
});

t.test('a disk that fails is told with its entry', async (t) => {
  const directory = t.testdir();
  const files = new FakeCacheFiles();
  const folder = makeEntry(directory, URL_TEXT);
  const open: typeof files.open = (spec) => ({
    ...files.open(spec),
    chunks: 1,
    verify: () => {
      throw Object.assign(new Error('EIO'), { code: 'EIO' });
    },
  });
  await t.rejects(all(verifyCache(directory, signal, open)), { message: new RegExp(folder) });
  t.equal(files.locked.size, 0);
});

t.test('a folder that is named has to be there, and be one', async (t) => {
  const root = t.testdir({ file: '' });
  const { open } = new FakeCacheFiles();
  await t.rejects(listCache(join(root, 'none'), open), {
    code: 'UNBD_USAGE',
    message: /there is no folder/,
  });
  await t.rejects(listCache(join(root, 'file'), open), {
    code: 'UNBD_USAGE',
    message: /no folder/,
  });
});

function folders(root: string) {
  return { directory: join(root, 'directory'), elsewhere: join(root, 'elsewhere') };
}
