/**
 * Claim: null:, memory: and file: are devices like any other, on either data path.
 * Method: fio verify, a filesystem on a file, the bytes of the file after. ublksrv's null, loop
 * and generic/003.
 */
import assert from 'node:assert/strict';
import { isBrief, isFull } from '../support/amount.ts';
import { startNbdkit } from '../support/backends.ts';
import { blockdevNumber, dropCaches, MIB } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { DirectFile } from '../support/direct-file.ts';
import {
  assertClean,
  checksums,
  checksumsInImage,
  copyTree,
  FILESYSTEM_BYTES,
  makeFilesystem,
  mountAt,
} from '../support/filesystem.ts';
import { fio, fioVerify } from '../support/fio.ts';
import { must, shell } from '../support/process.ts';
import { connect, listed } from '../support/product.ts';

const size = isFull ? '64m' : '8m';

claim('null: takes every write and reads as zeroes', async (scope) => {
  const device = await connect(scope, 'null:1G');
  const options = { rw: 'randrw', bs: '4k', iodepth: 32, size };
  assert.equal((await fio({ path: device.path, options })).totalErrors, 0);
  const file = new DirectFile(device.path);
  scope.defer(() => file.close());
  file.write(MIB, Buffer.alloc(MIB, 'gone'));
  assert(file.read(MIB, MIB).equals(Buffer.alloc(MIB)));
  file.close();
  await device.disconnect();
});

for (const dataPath of ['copy', 'user-copy']) {
  // The copy path of nbd is what every other test takes.
  for (const kind of isBrief && dataPath === 'copy' ? ['memory'] : ['memory', 'file', 'nbd']) {
    const claimIt = kind === 'memory' ? claimToo : claim;
    claimIt(`${kind} verifies on the data path ${dataPath}`, async (scope) => {
      let target = 'memory:64M';
      if (kind === 'nbd') target = (await startNbdkit(scope, ['memory', '64M'])).target;
      if (kind === 'file') {
        const image = scope.path('disk.img');
        await shell(`truncate -s 64M ${image}`);
        target = `file:${image}`;
      }
      const device = await connect(scope, target, '--data-path', dataPath);
      assert.equal((await listed(device.path, '-v')).details?.dataPath, dataPath);
      await fioVerify(device.path, { iodepth: 32, size });
      await device.disconnect();
    });
  }
}

claimToo('file: verifies on a block device, and where there is no direct I/O', async (scope) => {
  const image = scope.path('disk.img');
  await shell(`truncate -s 64M ${image}`);
  const loop = (await must(['losetup', '--find', '--show', image])).trim();
  scope.defer(async () => void (await must(['losetup', '--detach', loop])));
  const folder = scope.path('ramfs');
  await shell(`mkdir ${folder}; mount -t ramfs none ${folder}; truncate -s 64M ${folder}/img`);
  scope.defer(async () => void (await must(['umount', folder])));
  for (const path of [loop, `${folder}/img`]) {
    const device = await connect(scope, `file:${path}`);
    assert.equal(await blockdevNumber('--getsize64', device.path), 64 * MIB);
    await fioVerify(device.path, { iodepth: 8, size: '4m' });
    await device.disconnect();
  }
});

claimToo('a filesystem on file: is in the file', async (scope) => {
  const image = scope.path('disk.img');
  await shell(`truncate -s ${FILESYSTEM_BYTES.ext4} ${image}`);
  const device = await connect(scope, `file:${image}`);
  await makeFilesystem('ext4', device.path);
  const { folder, unmount } = await mountAt(scope, device.path);
  await copyTree(folder, 4);
  const written = await checksums(folder);
  await dropCaches();
  assert.equal(await checksums(folder), written);
  await unmount();
  await device.disconnect();
  await assertClean('ext4', image);
  assert.equal(await checksumsInImage(scope, 'ext4', image), written);
});
