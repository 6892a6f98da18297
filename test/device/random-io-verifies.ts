/**
 * Claim: random reads and writes of mixed sizes read back what was written, at any depth and
 * number of queues.
 * Method: fio with a crc32c in every block, 512 B to 1 MiB, on a backend that allows several
 * connections. A kernel gives a device at most as many queues as it has processors, so four queues
 * need four of them.
 */
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { isFull } from '../support/amount.ts';
import { startNbdkit } from '../support/backends.ts';
import { claim } from '../support/claim.ts';
import { fioVerify } from '../support/fio.ts';
import { connect, listed } from '../support/product.ts';

const jobBytes = isFull ? '64m' : '8m';

for (const asked of [1, 4]) {
  const queues = Math.min(asked, availableParallelism());
  const note = queues === asked ? '' : ` (this machine's processors allow ${queues})`;
  claim(`random I/O verifies on ${asked} queues${note} at depth 1 and 64`, async (scope) => {
    const backend = await startNbdkit(scope, ['memory', '288M']);
    const device = await connect(scope, backend.target, '--queues', String(asked));
    assert.equal((await listed(device.path)).queues, queues);
    for (const iodepth of [1, 64]) {
      await fioVerify(device.path, {
        iodepth,
        numjobs: queues,
        size: jobBytes,
        offset_increment: '64m',
        ...(queues > 1 ? { cpus_allowed: `0-${queues - 1}`, cpus_allowed_policy: 'split' } : {}),
      });
    }
    await device.disconnect();
  });
}
