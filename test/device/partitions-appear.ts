/**
 * Claim: partitions appear as devices of their own with their own bytes, unless the scan is
 * switched off.
 * Method: nbdkit's partitioning plugin puts a table in front of files; each partition equals its
 * file. And a backend so slow that the server process can be killed during the scan.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { startNbdkit } from '../support/backends.ts';
import { assertSameBytes, MIB, makeImage } from '../support/block.ts';
import { claim } from '../support/claim.ts';
import { anyServerPid } from '../support/leftovers.ts';
import { describe, must, until } from '../support/process.ts';
import { assertRefused, connect, startUblkNbd, ublkNbd, ublkNbdMust } from '../support/product.ts';
import { inFlight } from '../support/under-load.ts';

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
      await assertSameBytes(partition, path);
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

claim(
  'a server process that dies while the kernel looks for partitions hangs nobody',
  async (scope) => {
    const { target } = await startNbdkit(scope, ['--filter=delay', 'memory', '16M', 'rdelay=3']);
    const running = startUblkNbd(scope, ['connect', target, '--queues', '1']);
    const disk = () => readdirSync('/sys/block').find((name) => /^ublkb\d+$/.test(name));
    await until('the kernel reads', () => {
      const node = disk();
      return node !== undefined && inFlight({ node }).reads > 0;
    });
    const pid = anyServerPid();
    assert(pid !== undefined);
    process.kill(pid, 'SIGKILL');
    // From here on: until the kernel reads, a slow machine needs a while.
    const killedAtMs = Date.now();
    const outcome = await running.exited;
    assert(Date.now() - killedAtMs < 60_000, describe(outcome));
    if (outcome.status === 0) {
      const path = outcome.stdout.trim();
      await must(['dd', `if=${path}`, 'of=/dev/null', 'bs=4k', 'count=1', 'iflag=direct']);
      await ublkNbdMust('disconnect', path);
    } else {
      assert.match(outcome.stderr, /^ublk-nbd: [^\n]*the server process[^\n]*\n$/);
    }
  },
);

claim('a backend that never answers the scan is told, and leaves nothing', async (scope) => {
  const { target } = await startNbdkit(scope, ['--filter=delay', 'memory', '16M', 'rdelay=600']);
  const outcome = await ublkNbd(['connect', target]);
  assertRefused(outcome, 'UNBD_BACKEND_TIMEOUT', 5, /partition table .* does not answer/);
});
