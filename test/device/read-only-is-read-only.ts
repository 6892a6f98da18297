/**
 * Claim: a read-only export, and any export with --read-only, is a device that nothing can write
 * to.
 * Method: the ways a write can come: open for writing, BLKROSET undone by root, a mount; the
 * backend's file after.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { startNbdkit } from '../support/backends.ts';
import { assertSameBytes, blockdevNumber } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { DirectFile, errorOf } from '../support/direct-file.ts';
import { makeFilesystem, mountAt } from '../support/filesystem.ts';
import { must, run, shell } from '../support/process.ts';
import { connect, listed } from '../support/product.ts';

for (const [what, nbdkitWords, connectWords] of [
  ['a read-only export', ['--readonly'], []],
  ['an export connected with --read-only', [], ['--read-only']],
] as const) {
  const claimIt = connectWords.length > 0 ? claim : claimToo;
  claimIt(`${what} refuses every write`, async (scope) => {
    const image = scope.path('disk.img');
    await shell(`truncate -s 64M ${image}`);
    await makeFilesystem('ext4', image);
    await shell(`mkdir ${image}.d; mount -o loop ${image} ${image}.d; echo kept >${image}.d/file
      umount ${image}.d`);
    await must(['cp', '--sparse=always', image, `${image}.before`]);
    const backend = await startNbdkit(scope, [...nbdkitWords, 'file', image]);
    const device = await connect(scope, backend.target, ...connectWords);
    assert.equal(await blockdevNumber('--getro', device.path), 1);
    assert.equal((await listed(device.path)).readOnly, true);
    const write = (): void => {
      const file = new DirectFile(device.path);
      try {
        file.write(0, Buffer.alloc(4096, 'x'));
      } finally {
        file.close();
      }
    };
    assert.notEqual(errorOf(write), 'none', 'a write is refused');
    await run(['blockdev', '--setrw', device.path]);
    assert.notEqual(errorOf(write), 'none', 'also after root has told the kernel otherwise');
    await run(['blockdev', '--setro', device.path]);
    const { folder, unmount } = await mountAt(scope, device.path, '-o', 'ro');
    assert(existsSync(`${folder}/file`));
    assert.notEqual((await run(['touch', `${folder}/new`])).status, 0);
    await unmount();
    await device.disconnect();
    await backend.stop();
    await assertSameBytes(image, `${image}.before`);
  });
}
