/**
 * Goal: a local image shows its true size and whether it may be written; what is no image is
 * refused with a reason.
 * Method: files, folders and, where there is one, a block device of this machine.
 */
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { GatewayError } from '../../src/protocols/errors.ts';
import { type LocalTarget, localInfo } from '../../src/protocols/local/info.ts';

const file = (path: string): LocalTarget => ({ kind: 'file', path, text: `file:${path}` });

async function refusal(target: LocalTarget): Promise<string> {
  try {
    await localInfo(target);
  } catch (error) {
    if (error instanceof GatewayError) return error.line;
  }
  throw new Error('was not refused');
}

t.test('null and memory have the size that was asked for', async (t) => {
  const info = await localInfo({ kind: 'memory', sizeBytes: 4096n, text: 'memory:4K' });
  t.equal(info.sizeBytes, 4096n);
  t.equal(info.readOnly, false);
  t.equal(info.canMultiConn, true);
});

t.test('a file has its exact size, behind a link too', async (t) => {
  const folder = t.testdir();
  const path = join(folder, 'image');
  writeFileSync(path, '');
  truncateSync(path, 5_000_000_513);
  symlinkSync(path, join(folder, 'link'));
  t.equal((await localInfo(file(path))).sizeBytes, 5_000_000_513n);
  t.equal((await localInfo(file(join(folder, 'link')))).sizeBytes, 5_000_000_513n);
});

const isRoot = process.getuid?.() === 0;

t.test(
  'a file that may not be written is read-only',
  { skip: isRoot && 'root may write all' },
  async (t) => {
    const path = join(t.testdir({ image: 'x'.repeat(512) }), 'image');
    chmodSync(path, 0o444);
    t.equal((await localInfo(file(path))).readOnly, true);
    chmodSync(path, 0o000);
    t.match(await refusal(file(path)), /may not be read.*UNBD_NO_PERMISSION/);
  },
);

t.test('what is no image is refused with a reason', async (t) => {
  const folder = t.testdir({ empty: '' });
  mkdirSync(join(folder, 'sub'));
  t.match(await refusal(file(join(folder, 'none'))), /does not exist.*UNBD_EXPORT_UNKNOWN/);
  t.match(await refusal(file(join(folder, 'empty/x'))), /does not exist.*UNBD_EXPORT_UNKNOWN/);
  t.match(await refusal(file(join(folder, 'empty'))), /size is 0.*UNBD_EXPORT_UNUSABLE/);
  t.match(await refusal(file(join(folder, 'sub'))), /neither a file nor a block device/);
  t.match(await refusal(file('/dev/null')), /neither a file nor a block device/);
  t.match(await refusal(file(join(folder, 'n'.repeat(300)))), /ENAMETOOLONG/);
});

t.test('a block device has the size that the kernel knows', async (t) => {
  const [name] = readdirSync('/sys/class/block').filter((entry) => !entry.startsWith('loop'));
  const path = `/dev/${name}`;
  const reachable = name !== undefined && (await localInfo(file(path)).catch(() => undefined));
  if (reachable === undefined || reachable === false) {
    t.pass('skipped: no block device can be read here');
    return;
  }
  const sectors = await readFile(`/sys/class/block/${name}/size`, 'ascii');
  t.equal(reachable.sizeBytes, BigInt(sectors.trim()) * 512n);
});
