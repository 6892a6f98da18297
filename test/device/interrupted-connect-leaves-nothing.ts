/**
 * Claim: Ctrl-C at any stage of connect leaves nothing behind and ends with the status of an
 * interruption.
 * Method: a stage is known by what it leaves to see: a connection at the backend, the registry's
 * record, the char device, the disk. SIGINT is sent at the moment when it can be seen; `claim`
 * looks for leftovers after that.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { startNbdkit } from '../support/backends.ts';
import { claim, claimToo } from '../support/claim.ts';
import { startMute } from '../support/mute-backend.ts';
import { describe, type Outcome, type Running } from '../support/process.ts';
import { startUblkNbd, ublkNbdMust } from '../support/product.ts';

const runFolder = process.env.UBLK_NBD_RUN_DIR ?? '/run/ublk-nbd';

function has(folder: string, pattern: RegExp): boolean {
  return existsSync(folder) && readdirSync(folder).some((name) => pattern.test(name));
}

const stages: readonly (readonly [string, () => boolean])[] = [
  ['its record is in the registry', () => has(`${runFolder}/devices`, /^\d+\.msgpack$/)],
  ['the driver has added the char device', () => has('/dev', /^ublkc\d/)],
  ['the disk has appeared', () => has('/sys/block', /^ublkb\d/)],
];

/** Sends SIGINT once `seen`; looks as often as it can, since some stages last a millisecond. */
async function interruptWhen(running: Running, seen: () => boolean): Promise<void> {
  const limitMs = Date.now() + 120_000;
  let isReached = seen();
  while (!isReached && Date.now() < limitMs) {
    await new Promise((resolve) => setImmediate(resolve));
    isReached = seen();
  }
  assert(isReached, `the stage was reached: ${running.stderr()}`);
  running.kill('SIGINT');
}

/** The signal may come when the device is ready already: then connect has done its work. */
async function assertInterruptedOrDone(outcome: Outcome): Promise<void> {
  if (outcome.status === 0) await ublkNbdMust('disconnect', outcome.stdout.trim());
  else assert.equal(outcome.status, 130, describe(outcome));
}

for (const [n, [what, seen]] of stages.entries()) {
  const claimIt = n < stages.length - 1 ? claimToo : claim;
  claimIt(`Ctrl-C when ${what} leaves nothing`, async (scope) => {
    const backend = await startNbdkit(scope, ['--filter=delay', 'memory', '16M', 'rdelay=200ms']);
    const running = startUblkNbd(scope, ['connect', backend.target]);
    await interruptWhen(running, seen);
    await assertInterruptedOrDone(await running.exited);
  });
}

claimToo('Ctrl-C while the backend does not answer leaves nothing, at once', async (scope) => {
  const backend = await startMute(scope);
  const words = ['connect', backend.target, '--handshake-timeout', '120'];
  const running = startUblkNbd(scope, words);
  await interruptWhen(running, () => backend.connections() > 0);
  const outcome = await running.exited;
  assert.equal(outcome.status, 130, describe(outcome));
  assert.match(outcome.stderr, /^[^\n]*interrupted[^\n]*\n$/i);
});

claimToo('Ctrl-C before anything was done leaves nothing', async (scope) => {
  const running = startUblkNbd(scope, ['connect', 'null:16M']);
  running.kill('SIGINT');
  await assertInterruptedOrDone(await running.exited);
});
