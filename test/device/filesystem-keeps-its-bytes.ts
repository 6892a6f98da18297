/**
 * Claim: a filesystem on a device of any backend keeps its bytes, and the backend has them without
 * us.
 * Method: mkfs, mount, copy a source tree, sync, drop caches, compare checksums, unmount,
 * disconnect; then fsck and the same checksums in the backend's own bytes, read by programs that
 * are not ours.
 */
import assert from 'node:assert/strict';
import { isFull } from '../support/amount.ts';
import { dropCaches } from '../support/block.ts';
import { claim } from '../support/claim.ts';
import { chosenCombinations } from '../support/combinations.ts';
import { startDisk } from '../support/disks.ts';
import {
  assertClean,
  checksums,
  checksumsInImage,
  copyTree,
  FILESYSTEM_BYTES,
  makeFilesystem,
  mountAt,
} from '../support/filesystem.ts';
import { connect } from '../support/product.ts';

for (const { backend: kind, transport, filesystem } of chosenCombinations()) {
  claim(`${filesystem} on ${kind} over ${transport} keeps its bytes`, async (scope) => {
    const backend = await startDisk(scope, kind, transport, FILESYSTEM_BYTES[filesystem]);
    const device = await connect(scope, backend.target);
    await makeFilesystem(filesystem, device.path);
    const { folder, unmount } = await mountAt(scope, device.path, '-t', filesystem);
    await copyTree(folder, isFull ? 32 : 4);
    const written = await checksums(folder);
    assert(written.split('\n').length > 100, 'the tree has files');
    await dropCaches();
    assert.equal(await checksums(folder), written, 'read back through the device');
    await unmount();
    await device.disconnect();

    const raw = await backend.rawBytes();
    await assertClean(filesystem, raw);
    assert.equal(await checksumsInImage(scope, filesystem, raw), written, 'in the backend');
  });
}
