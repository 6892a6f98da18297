/**
 * Claim: a device's size and limits are exactly what its backend offers, no more and no less.
 * Method: two backends with opposite features; the kernel's own view of the device in /sys.
 */
import assert from 'node:assert/strict';
import { startNbdkit } from '../support/backends.ts';
import { blockdevNumber, KIB, MIB, sysfsNumber, sysfsText } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { connect, listed } from '../support/product.ts';

claim(
  'a backend with every feature: exact size, write-back cache, FUA, discard, zeroes',
  async (scope) => {
    const sizeBytes = 5 * MIB + 3 * 512;
    const words = ['--filter=blocksize-policy', 'memory', String(sizeBytes)];
    const limits = ['blocksize-preferred=65536', 'blocksize-maximum=32M'];
    const backend = await startNbdkit(scope, [...words, ...limits]);
    const device = await connect(scope, backend.target, '--queues', '1');
    const queue = (name: string): number => sysfsNumber(device.node, `queue/${name}`);
    assert.equal(await blockdevNumber('--getsize64', device.path), sizeBytes);
    assert.equal(Number((await listed(device.path)).sizeBytes), sizeBytes);
    assert.equal(queue('logical_block_size'), 512);
    assert.equal(queue('optimal_io_size'), 64 * KIB);
    assert.equal(queue('max_sectors_kb'), 1024);
    assert.equal(sysfsText(device.node, 'queue/write_cache'), 'write back');
    assert.equal(queue('fua'), 1);
    assert(queue('discard_max_bytes') > 0 && queue('discard_granularity') > 0);
    assert(queue('write_zeroes_max_bytes') > 0);
    assert.equal(queue('rotational'), 0);
    assert.equal(sysfsNumber(device.node, 'ro'), 0);
    await device.disconnect();
  },
);

claimToo('a backend that can only read and write: no cache to flush, no discard', async (scope) => {
  const image = scope.path('disk.img');
  const backend = await startNbdkit(scope, [
    'eval',
    `open=truncate -s 1M ${image}`,
    'get_size=echo 1048576',
    `pread=dd status=none if=${image} bs=512 skip=$4 count=$3 iflag=skip_bytes,count_bytes`,
    `pwrite=dd status=none of=${image} bs=512 seek=$4 conv=notrunc oflag=seek_bytes`,
  ]);
  const device = await connect(scope, backend.target, '--block-size', '4096');
  assert.equal(await blockdevNumber('--getsize64', device.path), MIB);
  assert.equal(sysfsNumber(device.node, 'queue/logical_block_size'), 4096, 'as asked for');
  assert.equal(sysfsText(device.node, 'queue/write_cache'), 'write through');
  assert.equal(sysfsNumber(device.node, 'queue/fua'), 0);
  assert.equal(sysfsNumber(device.node, 'queue/discard_max_bytes'), 0);
  await device.disconnect();
});
