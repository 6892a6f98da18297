/**
 * Claim: a device whose backend is gone can be disconnected: within --drain-timeout and 2 s it is
 * away, whatever state it is in, and what was lost with it is said; Ctrl-C before takes it back.
 * Method: nbdkit killed -9 under devices with and without a write that was never flushed; mounted;
 * the server process killed with it.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { isSlow } from '../support/amount.ts';
import { freePort, startNbdkit } from '../support/backends.ts';
import { claim, claimToo } from '../support/claim.ts';
import { DirectFile } from '../support/direct-file.ts';
import { killBackend, killIfAlive, untilState } from '../support/kills.ts';
import { describe, must, type Outcome, run, shell, until } from '../support/process.ts';
import {
  assertRefused,
  connect,
  type Device,
  list,
  listed,
  startUblkNbd,
  ublkNbd,
  ublkNbdMust,
} from '../support/product.ts';
import type { Scope } from '../support/scope.ts';

const DRAIN_S = 3;
const BRIEFLY = ['--drain-timeout', String(DRAIN_S)];
/** Below the 30 s of a drain for which nothing was asked. */
const GRACE_S = isSlow ? 26 : 2;
const LIMIT_MS = (DRAIN_S + GRACE_S) * 1000;

interface Lost {
  readonly device: Device;
  readonly port: number;
}

/** A write that the backend acknowledges and never flushes. */
function write(device: Device): void {
  const file = new DirectFile(device.path);
  file.write(8192, Buffer.alloc(4096, 'x'));
  file.close();
}

/** A device whose backend is gone, and what was written to it never flushed. */
async function lost(scope: Scope, isWritten: boolean, ...options: string[]): Promise<Lost> {
  const port = await freePort();
  const backend = await startNbdkit(scope, ['memory', '32M'], 'tcp', port);
  const device = await connect(scope, backend.target, ...options);
  if (isWritten) write(device);
  await killBackend(backend);
  await untilState(device, /HOLDING|FAILING/);
  return { device, port };
}

/** A server process has less than a second to say how many writes it is: not on a busy machine. */
const UNKNOWN = /may be lost, if there were any/;
const TRIES = 3;

/** Once more with other devices where it was not known what is lost. */
async function untilKnown<T extends { readonly outcome: Outcome }>(
  disconnectLost: () => Promise<T>,
): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    const ended = await disconnectLost();
    if (tries === TRIES || !UNKNOWN.test(ended.outcome.stderr)) return ended;
  }
}

/** What a disconnect makes of such a device. */
function endLost(
  scope: Scope,
  isWritten: boolean,
  ...options: string[]
): Promise<{ device: Device; outcome: Outcome }> {
  return untilKnown(async () => {
    const { device } = await lost(scope, isWritten, ...options);
    return { device, outcome: await ublkNbd(['disconnect', device.path, ...BRIEFLY]) };
  });
}

function assertLoss(outcome: Outcome, text: RegExp): void {
  assertRefused(outcome, 'UNBD_DATA_LOST', 13, text);
  assert(outcome.durationMs < LIMIT_MS, `it took ${outcome.durationMs} ms`);
}

async function assertGone({ id }: Device): Promise<void> {
  assert.deepEqual(await list(), []);
  assert(!existsSync(`/dev/ublkc${id}`) && !existsSync(`/dev/ublkb${id}`));
}

for (const [state, ...options] of [
  ['HOLDING', '--reconnect-delay', 'inf'],
  ['FAILING', '--reconnect-delay', '0'],
] as const) {
  const also = state === 'HOLDING' ? claim : claimToo;
  also(`${state}: what was never flushed is lost, and said; the device is gone`, async (scope) => {
    const { device, outcome } = await endLost(scope, true, ...options);
    assertLoss(outcome, /1 write \(4096 bytes\) that was never flushed may be lost/);
    await assertGone(device);
  });

  also(`${state}: where nothing was written it is a success`, async (scope) => {
    const { device, outcome } = await endLost(scope, false, ...options);
    assert.equal(outcome.status, 0, describe(outcome));
    assert(outcome.durationMs < LIMIT_MS, `it took ${outcome.durationMs} ms`);
    await assertGone(device);
  });
}

claim('what a backend takes that comes back in time is not lost', async (scope) => {
  const { device, port } = await lost(scope, true, '--reconnect-delay', '0');
  const disconnecting = ublkNbd(['disconnect', device.path, '--drain-timeout', '60']);
  await delay(1000);
  await startNbdkit(scope, ['memory', '32M'], 'tcp', port);
  const outcome = await disconnecting;
  assert.equal(outcome.status, 0, describe(outcome));
  await assertGone(device);
});

claimToo('FATAL: another image took the place of the backend', async (scope) => {
  const { device, outcome } = await untilKnown(async () => {
    const { device, port } = await lost(scope, true);
    await startNbdkit(scope, ['memory', '8M'], 'tcp', port);
    await untilState(device, /FATAL/);
    return { device, outcome: await ublkNbd(['disconnect', device.path, ...BRIEFLY]) };
  });
  assertLoss(outcome, /1 write/);
  await assertGone(device);
});

claim('the server process dies with the backend, before and during the drain', async (scope) => {
  for (const during of [false, true]) {
    const { device } = await lost(scope, true, '--reconnect-delay', 'inf');
    const { serverPid } = await listed(device.path);
    if (!during) process.kill(serverPid, 'SIGKILL');
    const disconnecting = ublkNbd(['disconnect', device.path, ...BRIEFLY]);
    if (during) {
      const others = ['CONNECTED', 'HOLDING'];
      await until('it drains', async () => (await list()).every((d) => !others.includes(d.state)));
      await delay(1000);
      // Its three seconds may be over by now.
      killIfAlive(serverPid);
    }
    assertLoss(await disconnecting, /may be lost/);
    await assertGone(device);
  }
});

claimToo('a server process that stands still holds nothing up', async (scope) => {
  const { device } = await lost(scope, true, '--reconnect-delay', 'inf');
  process.kill((await listed(device.path)).serverPid, 'SIGSTOP');
  assertLoss(await ublkNbd(['disconnect', device.path, ...BRIEFLY]), /may be lost/);
  await assertGone(device);
});

claimToo('--all drains every device at the same time', async (scope) => {
  const { outcome } = await untilKnown(async () => {
    for (let count = 0; count < 3; count += 1) await lost(scope, count === 1);
    return { outcome: await ublkNbd(['disconnect', '--all', ...BRIEFLY]) };
  });
  assertLoss(outcome, /1 write/);
  assert.deepEqual(await list(), []);
});

claimToo('Ctrl-C during the drain takes the device back', async (scope) => {
  const { device, port } = await lost(scope, true, '--reconnect-delay', 'inf');
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const running = startUblkNbd(scope, ['disconnect', device.path, '--drain-timeout', '120']);
    await until('it drains', async () => (await listed(device.path)).state === 'STOPPING');
    running.kill(signal);
    const outcome = await running.exited;
    assert.equal(outcome.status, 130, describe(outcome));
    assert.match(outcome.stderr, /^ublk-nbd: interrupted, and \/dev\/ublkb\d+ goes on [^\n]*\n$/);
    assert.equal((await listed(device.path)).state, 'HOLDING');
  }
  await startNbdkit(scope, ['memory', '32M'], 'tcp', port);
  await untilState(device, /CONNECTED/);
  const file = new DirectFile(device.path);
  assert.equal(file.read(8192, 4096).toString('latin1', 0, 1), 'x');
  file.close();
  await device.disconnect();
});

/** ext4 with something that only the page cache has, and then no backend. */
async function lostUnderMount(scope: Scope): Promise<{ device: Device; folder: string }> {
  const backend = await startNbdkit(scope, ['memory', '32M']);
  const device = await connect(scope, backend.target, '--reconnect-delay', 'inf');
  await must(['mkfs.ext4', '-q', '-E', 'lazy_itable_init=0', device.path]);
  const folder = scope.path('mounted');
  await shell(`mkdir ${folder}; mount ${device.path} ${folder}; echo kept > ${folder}/file; sync`);
  // Whoever writes after the loss may have to wait for the journal.
  await shell(`echo lost > ${folder}/another`);
  await killBackend(backend);
  scope.defer(async () => void (await run(['umount', '--lazy', folder])));
  return { device, folder };
}

claimToo('of a mounted device it is refused at once, and --force ends it', async (scope) => {
  const { device, folder } = await lostUnderMount(scope);
  const refused = await ublkNbd(['disconnect', device.path, ...BRIEFLY]);
  assertRefused(refused, 'UNBD_DEVICE_BUSY', 9, /mounted at/);
  assert(refused.durationMs < (2 + GRACE_S) * 1000, `it took ${refused.durationMs} ms`);
  const outcome = await ublkNbd(['disconnect', device.path, '--force']);
  assert.equal(outcome.status, 0, describe(outcome));
  assert(outcome.durationMs < (8 + GRACE_S) * 1000, `it took ${outcome.durationMs} ms`);
  assert(!existsSync(`/dev/ublkc${device.id}`));
  await must(['umount', folder]);
});

claimToo('umount does not hang either', async (scope) => {
  const { device, folder } = await lostUnderMount(scope);
  assertLoss(await ublkNbd(['umount', folder, ...BRIEFLY]), /took nothing for 3 s/);
  assert.equal(await shell(`grep -c ${device.path} /proc/mounts || true`), '0\n');
  await assertGone(device);
});

claimToo('connect --foreground ends on SIGTERM within the drain', async (scope) => {
  const backend = await startNbdkit(scope, ['memory', '32M']);
  const running = startUblkNbd(scope, ['connect', '--foreground', backend.target, ...BRIEFLY]);
  await until('it is connected', () => /^\/dev\/ublkb\d+\n/.test(running.stdout()));
  const [device] = await list();
  assert(device !== undefined);
  await killBackend(backend);
  const startedAtMs = Date.now();
  running.kill('SIGTERM');
  const outcome = await running.exited;
  assert.equal(outcome.status, 0, describe(outcome));
  assert(Date.now() - startedAtMs < LIMIT_MS);
  await ublkNbdMust('list');
  assert(!existsSync(`/dev/ublkc${device.id}`));
});
