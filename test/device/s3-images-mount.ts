/**
 * Claim: an image in S3 is a read-only device with exactly its bytes, which mounts; a version that
 * is pinned is read on whatever becomes of its key, what has no version is never mixed with what
 * replaces it, and who may not read it gets a reason.
 * Method: a real radosgw with buckets of both kinds, which judges signatures by itself; objects
 * overwritten and the server process killed -9 under a device.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { assertSameBytes, MIB, makeImage } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { DirectFile, errorOf } from '../support/direct-file.ts';
import { checksums } from '../support/filesystem.ts';
import { makeFilledImage } from '../support/images.ts';
import { killServerProcess } from '../support/kills.ts';
import { until } from '../support/process.ts';
import { assertRefused, connect, listed, ublkNbd, ublkNbdMust } from '../support/product.ts';
import { SLOWLY, s3World } from '../support/s3-world.ts';
import { presigned } from '../support/sigv4.ts';

/** All that ublk-nbd keeps of its devices and says of them. */
function keptText(): string {
  const folder = process.env.UBLK_NBD_RUN_DIR ?? '/run/ublk-nbd';
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  const paths = names.map((name) => join(folder, name)).filter((path) => statSync(path).isFile());
  return paths.map((path) => readFileSync(path, 'latin1')).join('\n');
}

claim(
  'ext4 in a bucket mounts and has its bytes, and nothing that is kept or shown is a secret',
  async (scope) => {
    const { radosgw, words } = await s3World(scope);
    const image = scope.path('disk.img');
    const made = await makeFilledImage(scope, 'ext4', image, 32 * MIB);
    await radosgw.makeBucket('images');
    await radosgw.put('images', 'a folder/disk+1.img', readFileSync(image));
    const mountPoint = scope.path('mnt');
    mkdirSync(mountPoint);
    const target = 's3://images/a%20folder/disk%2B1.img';
    const command = ['mount', target, mountPoint, '--cache-memory', '80M', ...words];
    const path = (await ublkNbdMust(...command)).trim();
    scope.defer(async () => void (await ublkNbd(['umount', mountPoint])));
    assert.equal(await checksums(mountPoint), made.checksums);
    await assertSameBytes(path, image);
    const device = await listed(path, '-v');
    assert.equal(device.target, target);
    assert.equal(Number(device.details?.counters.fetchedBytes), statSync(image).size);
    assert.match(await ublkNbdMust('info', target, ...words), /size +33554432 bytes/);
    const kept = keptText() + (await ublkNbdMust('list', '--json', '-v'));
    assert(kept.includes('credentials-'), 'the path of the file is kept');
    assert(!kept.includes(radosgw.keys.secret), 'its content is not');
    await ublkNbdMust('umount', mountPoint);
  },
  SLOWLY,
);

claimToo(
  'a pinned version is read on when its key is overwritten, by a successor too',
  async (scope) => {
    const { radosgw, words } = await s3World(scope);
    const [old, next] = [scope.path('old.img'), scope.path('new.img')];
    await makeImage(old, 8 * MIB, 3);
    await makeImage(next, 4 * MIB, 5);
    await radosgw.makeBucket('kept', true);
    const first = await radosgw.put('kept', 'disk.img', readFileSync(old));
    const device = await connect(scope, 's3://kept/disk.img', '--cache-memory', '4M', ...words);
    const file = new DirectFile(device.path);
    scope.defer(() => file.close());
    file.read(0, 4096);
    const second = await radosgw.put('kept', 'disk.img', readFileSync(next));
    assert.notEqual(first, second);
    await assertSameBytes(device.path, old);
    await killServerProcess(device);
    assert.equal(file.read(7 * MIB, 4096).readBigUInt64BE(0), BigInt(7 * MIB * 3));
    file.close();
    await device.disconnect();
    for (const [target, image] of [
      [`s3://kept/disk.img?versionId=${first}`, old],
      ['s3://kept/disk.img', next],
    ] as const) {
      const again = await connect(scope, target, ...words);
      await assertSameBytes(again.path, image);
      await again.disconnect();
    }
  },
  SLOWLY,
);

claimToo(
  'what has no version is FATAL when it is overwritten, and gives no byte of its successor',
  async (scope) => {
    const { radosgw, words } = await s3World(scope);
    const [old, next] = [scope.path('old.img'), scope.path('new.img')];
    await makeImage(old, 8 * MIB, 3);
    await makeImage(next, 8 * MIB, 5);
    await radosgw.makeBucket('plain');
    await radosgw.put('plain', 'disk.img', readFileSync(old));
    const device = await connect(scope, 's3://plain/disk.img', ...words);
    const file = new DirectFile(device.path);
    scope.defer(() => file.close());
    assert.equal(file.read(MIB, 4096).readBigUInt64BE(0), BigInt(MIB * 3));
    await radosgw.put('plain', 'disk.img', readFileSync(next));
    assert.equal(
      errorOf(() => file.read(6 * MIB, 4096)),
      'EIO',
    );
    await until('it is FATAL', async () => (await listed(device.path)).state === 'FATAL');
    const { reason } = await listed(device.path);
    assert.match(reason ?? '', /s3:\/\/plain\/disk\.img is another object now/);
    file.close();
    await device.disconnect();
  },
  SLOWLY,
);

claimToo(
  'who may not read it is told why, and who needs no credentials needs none',
  async (scope) => {
    const { radosgw, words, wordsWith } = await s3World(scope);
    const image = scope.path('disk.img');
    await makeImage(image, 4 * MIB);
    await radosgw.makeBucket('shut');
    await radosgw.put('shut', 'disk.img', readFileSync(image));
    await radosgw.put('shut', 'public.img', readFileSync(image), 'public-read');
    const endpoint = ['--s3-endpoint', radosgw.endpoint];
    for (const [target, options, code, text] of [
      ['s3://shut/disk.img', wordsWith('wrong/secret'), 'REFUSED', /SignatureDoesNotMatch/],
      ['s3://shut/disk.img', wordsWith('any', 'AKWRONG'), 'REFUSED', /access key is not known/],
      ['s3://shut/disk.img', [...endpoint, '--s3-anonymous'], 'REFUSED', /403 AccessDenied/],
      ['s3://shut/missing', words, 'UNKNOWN', /404 NoSuchKey/],
      ['s3://missing/disk.img', words, 'UNKNOWN', /404 NoSuchBucket/],
    ] as const) {
      const outcome = await ublkNbd(['connect', target, ...options]);
      const line = assertRefused(outcome, `UNBD_EXPORT_${code}`, 7, text);
      assert.doesNotMatch(line, /wrong\/secret/);
    }
    const open = await connect(scope, 's3://shut/public.img', ...endpoint, '--s3-anonymous');
    await assertSameBytes(open.path, image);
    await open.disconnect();
  },
  SLOWLY,
);

claimToo(
  'an address that is signed for a time is read until then, and says then why not',
  async (scope) => {
    const { radosgw } = await s3World(scope);
    const image = scope.path('disk.img');
    await makeImage(image, 8 * MIB, 3);
    await radosgw.makeBucket('signed');
    await radosgw.put('signed', 'disk.img', readFileSync(image));
    const url = presigned(radosgw.url('signed', 'disk.img'), radosgw.keys, 40);
    const device = await connect(scope, url, '--reconnect-delay', '0');
    const file = new DirectFile(device.path);
    scope.defer(() => file.close());
    assert.equal(file.read(MIB, 4096).readBigUInt64BE(0), BigInt(MIB * 3));
    await until('the signature has expired', async () => {
      const answer = await fetch(url, { headers: { Range: 'bytes=0-0' } });
      await answer.arrayBuffer();
      return answer.status === 403;
    });
    assert.equal(
      errorOf(() => file.read(6 * MIB, 4096)),
      'EIO',
    );
    const { state, reason } = await listed(device.path);
    assert.equal(state, 'FAILING');
    assert.match(reason ?? '', /answers 403: it may not be read/);
    file.close();
    await device.disconnect();
  },
  SLOWLY,
);
