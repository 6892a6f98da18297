/**
 * Claim: when a device is made of a new version of an object, the entries of its older ones go,
 * unless somebody has them.
 * Method: openCache over folders of the test's own and a fake of the addon.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import t from 'tap';
import { entryName } from '../../src/gateway/cache-meta.ts';
import { keyFor, makeEntry, URL_TEXT, world } from '../support/fake-cache.ts';

t.test('older versions of an object go, but for those that somebody has', async (t) => {
  const directory = t.testdir({ notes: 'mine' });
  const { files, open } = world(directory);
  const old = makeEntry(directory, URL_TEXT, { etag: '"zero"' });
  const busy = makeEntry(directory, URL_TEXT, { etag: '"half"' });
  const other = makeEntry(directory, `${URL_TEXT}2`, { etag: '"zero"' });
  files.locked.add(busy);
  const cache = await open();
  t.ok(existsSync(old), 'not before the device is there');
  await cache?.removeOthers();
  const own = entryName(keyFor(URL_TEXT));
  t.strictSame(readdirSync(directory).sort(), [
    ...[basename(busy), basename(other), own].sort(),
    'notes',
  ]);
  t.ok(existsSync(join(directory, own, 'meta.json')));
  t.strictSame([...files.locked].sort(), [busy, join(directory, own)].sort());
});

t.test('no older version is touched where the folder is gone', async (t) => {
  const directory = join(t.testdir(), 'cache');
  const { open } = world(directory);
  const cache = await open();
  rmSync(directory, { recursive: true });
  await cache?.removeOthers();
  cache?.close();
  t.notOk(existsSync(directory));
});
