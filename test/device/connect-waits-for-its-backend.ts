/**
 * Claim: with --open-timeout a connect waits for a backend that is not there yet, for so long and
 * no longer; what the backend refuses is told at once, and Ctrl-C leaves nothing.
 */
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort, startNbdkit } from '../support/backends.ts';
import { claim, claimToo } from '../support/claim.ts';
import { describe } from '../support/process.ts';
import { assertRefused, connect, startUblkNbd, ublkNbd } from '../support/product.ts';

claim('a backend that comes later is found', async (scope) => {
  const port = await freePort();
  const connecting = connect(scope, `127.0.0.1:${port}`, '--open-timeout', '60');
  await delay(2000);
  await startNbdkit(scope, ['memory', '16M'], 'tcp', port);
  await (await connecting).disconnect();
});

claimToo('one that does not come is given up when the time is over', async (scope) => {
  const port = await freePort();
  for (const [target, code] of [
    [`127.0.0.1:${port}`, 'UNBD_BACKEND_UNREACHABLE'],
    [`nbd+unix:///?socket=${scope.path('none.sock')}`, 'UNBD_BACKEND_UNREACHABLE'],
    ['backend.invalid', 'UNBD_BACKEND_UNKNOWN_HOST'],
  ] as const) {
    const outcome = await ublkNbd(['connect', target, '--open-timeout', '2']);
    assertRefused(outcome, code, 5, /tried for 2 s/);
    assert(outcome.durationMs >= 2000, describe(outcome));
  }
});

claimToo('an export that is not there is told at once', async (scope) => {
  const backend = await startNbdkit(scope, [
    '--filter=exportname',
    'memory',
    '16M',
    'exportname=disk',
    'exportname-strict=true',
  ]);
  const outcome = await ublkNbd(['connect', `${backend.target}/other`, '--open-timeout', '120']);
  assertRefused(outcome, 'UNBD_EXPORT_UNKNOWN', 7, /other/);
});

claimToo('Ctrl-C while it waits leaves nothing', async (scope) => {
  const target = `127.0.0.1:${await freePort()}`;
  const running = startUblkNbd(scope, ['connect', target, '--open-timeout', '120']);
  await delay(3000);
  running.kill('SIGINT');
  const outcome = await running.exited;
  assert.equal(outcome.status, 130, describe(outcome));
});
