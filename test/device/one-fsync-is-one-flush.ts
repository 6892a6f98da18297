/**
 * Claim: an fsync of the device is one FLUSH at the backend, a write that must be durable carries
 * FUA, and no other request asks for either.
 * Method: nbdkit's log filter writes every request down; direct I/O, so that the page cache adds
 * none.
 */
import assert from 'node:assert/strict';
import { constants, readFileSync } from 'node:fs';
import { startNbdkit } from '../support/backends.ts';
import { claim } from '../support/claim.ts';
import { DirectFile } from '../support/direct-file.ts';
import { connect } from '../support/product.ts';

interface Counts {
  readonly writes: number;
  readonly fua: number;
  readonly flushes: number;
}

/**
 * Requests in the log filter's file; each has a line at its start, with its flags, and one at its
 * end.
 */
function countRequests(logFile: string): Counts {
  const lines = readFileSync(logFile, 'utf8').split('\n');
  const count = (pattern: RegExp): number => lines.filter((line) => pattern.test(line)).length;
  return {
    writes: count(/ Write id=\d+ offset=/),
    fua: count(/ (Write|Zero|Trim) id=\d+ offset=.* fua=1/),
    flushes: count(/ Flush id=\d+ /),
  };
}

claim('an fsync is one FLUSH, a durable write one FUA', async (scope) => {
  const logFile = scope.path('requests.log');
  const words = ['--filter=log', 'memory', '16M', `logfile=${logFile}`];
  const backend = await startNbdkit(scope, words);
  const device = await connect(scope, backend.target, '--no-partition-scan');
  const block = Buffer.alloc(4096, 'x');
  const start = countRequests(logFile);
  const file = new DirectFile(device.path);
  scope.defer(() => file.close());
  file.write(0, block);
  assert.deepEqual(since(start), { writes: 1, fua: 0, flushes: 0 }, 'a plain write');
  file.sync();
  assert.deepEqual(since(start), { writes: 1, fua: 0, flushes: 1 }, 'one fsync, one FLUSH');
  const durable = new DirectFile(device.path, constants.O_RDWR | constants.O_DSYNC);
  scope.defer(() => durable.close());
  durable.write(8192, block);
  const { writes, fua } = since(start);
  assert.deepEqual({ writes, fua }, { writes: 2, fua: 1 }, 'one durable write, one FUA');
  // The kernel may flush after such a write too, so the rounds are counted from here.
  const rounds = countRequests(logFile);
  for (let round = 0; round < 10; round += 1) {
    file.write(0, block);
    file.sync();
  }
  assert.deepEqual(since(rounds), { writes: 10, fua: 0, flushes: 10 }, 'ten rounds, ten FLUSHes');
  file.close();
  durable.close();
  await device.disconnect();

  function since(begin: Counts): Counts {
    const now = countRequests(logFile);
    return {
      writes: now.writes - begin.writes,
      fua: now.fua - begin.fua,
      flushes: now.flushes - begin.flushes,
    };
  }
});
