/**
 * Claim: partitions appear as devices of their own with their own bytes, unless the scan is
 * switched off.
 * Method: nbdkit's partitioning plugin puts a table in front of files; each partition equals its
 * file.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { startNbdkit } from '../support/backends.ts';
import { MIB, makeImage, sha256File } from '../support/block.ts';
import { claim } from '../support/claim.ts';
import { must, until } from '../support/process.ts';
import { connect } from '../support/product.ts';

claim(
  'partitions appear with their bytes, or not at all with --no-partition-scan',
  async (scope) => {
    const files = [scope.path('one'), scope.path('two')];
    for (const [n, path] of files.entries()) await makeImage(path, (n + 2) * MIB, n + 1);
    const words = ['partitioning', ...files, 'partition-type=gpt'];
    const backend = await startNbdkit(scope, ['--readonly', ...words]);

    const scanned = await connect(scope, backend.target);
    for (const [n, path] of files.entries()) {
      const partition = `${scanned.path}p${n + 1}`;
      await until(`${partition} appears`, () => existsSync(partition));
      assert.equal(await sha256File(partition), await sha256File(path));
    }
    await scanned.disconnect();
    assert(!existsSync(`${scanned.path}p1`), 'the partitions go with the device');

    const plain = await connect(scope, backend.target, '--no-partition-scan');
    assert(!existsSync(`/sys/block/${plain.node}/${plain.node}p1`), 'no partition was scanned');
    // BLKRRPART is refused on Linux 6.12 for a disk that was told not to scan.
    await must(['partx', '--add', plain.path]);
    const first = `/sys/block/${plain.node}/${plain.node}p1`;
    await until('a scan by hand finds them', () => existsSync(first));
    await plain.disconnect();
  },
);
