/**
 * Claim: a request that the backend fails fails with its error, and every other one has the right
 * bytes.
 * Method: nbdkit's error filter over its pattern, many random direct reads in either reply style;
 * and over memory with other errors.
 */
import assert from 'node:assert/strict';
import { constants } from 'node:fs';
import { isFull } from '../support/amount.ts';
import { startNbdkit } from '../support/backends.ts';
import { KIB, MIB, patternBytes } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { DirectFile, errorOf } from '../support/direct-file.ts';
import { connect, listed } from '../support/product.ts';
import type { Scope } from '../support/scope.ts';

const sizeBytes = 64 * MIB;
const durationMs = isFull ? 60_000 : 4_000;
/** However long they take: among so many, one in five is some, and not most. */
const LEAST_READS = 200;

async function playReads(scope: Scope, ...options: readonly string[]): Promise<void> {
  const words = ['--filter=error', 'pattern', String(sizeBytes), 'error-pread=EIO'];
  const backend = await startNbdkit(scope, [...words, 'error-pread-rate=20%']);
  const device = await connect(scope, backend.target, '--no-partition-scan', ...options);
  const file = new DirectFile(device.path, constants.O_RDONLY);
  let failed = 0;
  let succeeded = 0;
  const untilMs = Date.now() + durationMs;
  while (Date.now() < untilMs || failed + succeeded < LEAST_READS) {
    // nbdkit tells every error on stderr and waits until we have taken it.
    await new Promise((resolve) => setImmediate(resolve));
    const lengthBytes = 512 * (1 + Math.floor(Math.random() * 256));
    const offsetBytes = 512 * Math.floor((Math.random() * (sizeBytes - lengthBytes)) / 512);
    let bytes: Buffer | undefined;
    const error = errorOf(() => {
      bytes = file.read(offsetBytes, lengthBytes);
    });
    if (bytes === undefined) {
      assert.equal(error, 'EIO');
      failed += 1;
    } else {
      const wanted = patternBytes(offsetBytes, lengthBytes);
      assert(bytes.equals(wanted), `wrong bytes: ${lengthBytes} at ${offsetBytes}`);
      succeeded += 1;
    }
  }
  file.close();
  assert(failed > 0 && succeeded > failed, `${failed} failed, ${succeeded} succeeded`);
  assert.equal((await listed(device.path)).state, 'CONNECTED', 'errors do not end the connection');
  await device.disconnect();
}

for (const [style, options] of [
  ['simple', []],
  ['structured', ['--structured-replies']],
] as const) {
  claim(
    `of the reads that one in five fails, each is EIO or has the right bytes: ${style} replies`,
    (scope) => playReads(scope, ...options),
  );
}

claimToo('an error of a write keeps its meaning', async (scope) => {
  const words = ['--filter=error', 'memory', '16M', 'error-pwrite=ENOSPC'];
  const backend = await startNbdkit(scope, [...words, 'error-pwrite-rate=100%']);
  const device = await connect(scope, backend.target);
  const file = new DirectFile(device.path);
  assert.equal(
    errorOf(() => file.write(0, Buffer.alloc(4 * KIB))),
    'ENOSPC',
  );
  assert(file.read(0, 4 * KIB).equals(Buffer.alloc(4 * KIB)), 'reads go on');
  file.close();
  await device.disconnect();
});
