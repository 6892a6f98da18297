/**
 * Claim: discarding and zeroing a range does that at the backend, and to nothing beside the range.
 * Method: nbdkit's file plugin on a sparse file, whose allocation shows holes; blkdiscard, fstrim,
 * mount -o discard.
 */
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { startNbdkit } from '../support/backends.ts';
import { dropCaches, MIB, makeImage } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { DirectFile } from '../support/direct-file.ts';
import { makeFilesystem, mountAt } from '../support/filesystem.ts';
import { must, shell } from '../support/process.ts';
import { connect } from '../support/product.ts';

const allocatedBytes = (path: string): number => statSync(path).blocks * 512;

claim('blkdiscard frees a range and blkdiscard -z zeroes one', async (scope) => {
  const image = scope.path('disk.img');
  await makeImage(image, 32 * MIB, 3);
  const backend = await startNbdkit(scope, ['file', image]);
  const device = await connect(scope, backend.target);
  const file = new DirectFile(device.path);
  scope.defer(() => file.close());
  const around = [file.read(3 * MIB, MIB), file.read(12 * MIB, MIB), file.read(24 * MIB, MIB)];
  const before = allocatedBytes(image);
  await must(['blkdiscard', '--offset', String(4 * MIB), '--length', String(8 * MIB), device.path]);
  assert.equal(allocatedBytes(image), before - 8 * MIB, 'the backend freed the range');

  const zero = ['blkdiscard', '--zeroout', '--offset', String(16 * MIB)];
  await must([...zero, '--length', String(8 * MIB), device.path]);
  await dropCaches();
  for (let at = 16; at < 24; at += 1) {
    assert(file.read(at * MIB, MIB).equals(Buffer.alloc(MIB)), `zeroes at ${at} MiB`);
  }
  const after = [file.read(3 * MIB, MIB), file.read(12 * MIB, MIB), file.read(24 * MIB, MIB)];
  assert.deepEqual(after, around, 'what lies beside the ranges is as it was');
  file.close();
  await device.disconnect();
  const inFile = await shell(
    `dd status=none if=${image} bs=1M skip=16 count=8 | tr -d '\\0' | wc -c`,
  );
  assert.equal(Number(inFile), 0, 'zeroes in the backend file');
});

claimToo('ext4 gives deleted files back, by fstrim and by mount -o discard', async (scope) => {
  const image = scope.path('disk.img');
  await shell(`truncate -s 64M ${image}`);
  const backend = await startNbdkit(scope, ['file', image]);
  const device = await connect(scope, backend.target);
  await makeFilesystem('ext4', device.path);
  for (const way of ['discard', 'nodiscard']) {
    const { folder, unmount } = await mountAt(scope, device.path, '-o', way);
    const empty = allocatedBytes(image);
    await shell(`head -c 16M /dev/urandom >${folder}/big; sync -f ${folder}/big`);
    assert(allocatedBytes(image) > empty + 15 * MIB, 'the file is in the backend');
    await shell(`rm ${folder}/big; sync -f ${folder}`);
    if (way === 'nodiscard') await must(['fstrim', folder]);
    await unmount();
    assert(allocatedBytes(image) < empty + 2 * MIB, `${way}: the backend has its space back`);
  }
  await device.disconnect();
});
