/**
 * Claim: a device works whatever its backend restricts: block sizes, parallel requests,
 * connections, FUA; and a bandwidth that is scarce is not spent on holes.
 * Method: nbdkit with the filter of each restriction; fio verifies. A request outside the limits
 * would be an error. A proxy counts what qemu-nbd sends of a sparse image.
 */
import assert from 'node:assert/strict';
import { isBrief, isFull } from '../support/amount.ts';
import { BackendProxy } from '../support/backend-proxy.ts';
import { startNbdkit, startQemuNbd } from '../support/backends.ts';
import { assertSameBytes, MIB, makeImage, sysfsNumber } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { DirectFile, errorOf } from '../support/direct-file.ts';
import { fioVerify } from '../support/fio.ts';
import { must, shell } from '../support/process.ts';
import { connect, listed } from '../support/product.ts';

const size = isFull ? '32m' : '4m';

claim('minimum 4096 and maximum 64 KiB are kept by every request', async (scope) => {
  const limits = ['minimum=4096', 'preferred=16384', 'maximum=65536', 'error-policy=error'];
  const words = ['--filter=blocksize-policy', 'memory', '64M'];
  const backend = await startNbdkit(scope, [...words, ...limits.map((l) => `blocksize-${l}`)]);
  const device = await connect(scope, backend.target);
  assert.equal(sysfsNumber(device.node, 'queue/logical_block_size'), 4096);
  assert.equal(sysfsNumber(device.node, 'queue/optimal_io_size'), 16_384);
  const file = new DirectFile(device.path);
  scope.defer(() => file.close());
  assert.equal(
    errorOf(() => file.read(512, 512)),
    'EINVAL',
    'the kernel refuses less than a block',
  );
  const bytes = Buffer.alloc(2 * MIB, 'a request beyond the maximum is split');
  file.write(4096, bytes);
  assert(file.read(4096, bytes.length).equals(bytes));
  file.close();
  await fioVerify(device.path, { iodepth: 16, size, bsrange: '4k-1m', blockalign: '4k' });
  assert.equal((await listed(device.path, '-v')).details?.counters.errors, 0);
  await device.disconnect();
});

const filters: readonly (readonly [string, readonly string[]])[] = [
  ['one request at a time', ['--filter=noparallel', 'memory', '64M', 'serialize=all-requests']],
  ['slow answers', ['--filter=delay', 'memory', '64M', 'rdelay=20ms', 'wdelay=20ms']],
  ['FUA that it emulates', ['--filter=fua', 'memory', '64M', 'fuamode=emulate']],
  ['no FUA', ['--filter=fua', 'memory', '64M', 'fuamode=discard']],
];

for (const [what, words] of isBrief ? filters.slice(0, 2) : filters) {
  claimToo(`a backend with ${what} verifies`, async (scope) => {
    const backend = await startNbdkit(scope, words);
    const device = await connect(scope, backend.target);
    await fioVerify(device.path, { iodepth: 32, size, fsync: 16 });
    await device.disconnect();
  });
}

claim('a backend without multi-conn gets one connection, whatever was asked for', async (scope) => {
  const words = ['--filter=multi-conn', 'memory', '64M', 'multi-conn-mode=disable'];
  const backend = await startNbdkit(scope, words);
  const device = await connect(scope, backend.target);
  assert.equal((await listed(device.path)).queues, 1);
  await fioVerify(device.path, { iodepth: 32, size });
  await device.disconnect();
});

claimToo(
  'qemu-nbd that allows one client at a time serves one device after another',
  async (scope) => {
    const image = scope.path('disk.img');
    await makeImage(image, 16 * MIB);
    const backend = await startQemuNbd(scope, image, 'raw', 'tcp', ['--shared', '1']);
    for (const round of [1, 2]) {
      const device = await connect(scope, backend.target);
      assert.equal((await listed(device.path)).queues, 1, `round ${round}`);
      await fioVerify(device.path, { iodepth: 8, size: '4m' });
      await device.disconnect();
    }
  },
);

claimToo(
  'holes are not sent where structured replies are asked for, and read right',
  async (scope) => {
    const raw = scope.path('disk.raw');
    const image = scope.path('disk.qcow2');
    await makeImage(raw, MIB);
    // Data that begins and ends within a cluster, between holes.
    await shell(`truncate -s 16M ${raw}; printf end | dd of=${raw} bs=1 seek=9000001 conv=notrunc`);
    await must(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, image]);
    const backend = await startQemuNbd(scope, image, 'qcow2');
    for (const options of [[], ['--structured-replies']]) {
      const proxy = await BackendProxy.start(scope, backend.target);
      const device = await connect(scope, proxy.target, ...options);
      const before = proxy.receivedBytes;
      await assertSameBytes(device.path, raw);
      const received = proxy.receivedBytes - before;
      const fits = options.length === 0 ? received >= 15 * MIB : received < 3 * MIB;
      assert(fits, `${received} bytes came with ${options}`);
      await device.disconnect();
    }
  },
);
