/**
 * Claim: a device outlives its backend: whoever reads or writes sees a pause and no error while it
 * is away for less than --reconnect-delay; after that EIO at once; and never another image.
 * Method: nbdkit and qemu-nbd killed -9 under fio with its checksums and started again on the same
 * file; other images behind the same address.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { isBrief, isFull, isLeast } from '../support/amount.ts';
import { freePort, startNbdkit, startQemuNbd } from '../support/backends.ts';
import { dd, MIB } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { DirectFile, errorOf } from '../support/direct-file.ts';
import { killBackend, PATIENTLY, replays, serverPid, untilState } from '../support/kills.ts';
import { run, shell, until } from '../support/process.ts';
import { connect, listed } from '../support/product.ts';
import { SlowNbdkit } from '../support/slow-nbdkit.ts';
import { verifyThrough } from '../support/under-load.ts';

const KILLS = isFull ? 50 : isLeast ? 2 : isBrief ? 3 : 10;
const QEMU_KILLS = isFull ? 50 : isBrief ? 2 : 5;
const OUTAGE_MS = isFull ? 10_000 : 1000;

claim(`fio verifies while nbdkit is killed -9 ${KILLS} times`, async (scope) => {
  const backend = await SlowNbdkit.start(scope, 64);
  const device = await connect(scope, backend.target, ...PATIENTLY);
  const fail = async (): Promise<void> => {
    const mark = await backend.standStill();
    await backend.kill();
    await untilState(device, /HOLDING/);
    await delay(Math.random() * OUTAGE_MS);
    await backend.restart();
    await untilState(device, /CONNECTED/);
    await backend.untilSentAgain(mark);
  };
  await verifyThrough(device, KILLS, fail, { isAtWork: backend.isAtWork });
  assert((await replays(device)) >= KILLS, 'each outage was replayed');
  await device.disconnect();
});

claimToo(`fio verifies while qemu-nbd is killed -9 ${QEMU_KILLS} times`, async (scope) => {
  const image = scope.path('image');
  await shell(`truncate -s 64M ${image}`);
  const port = await freePort();
  // So many requests a second, which keeps the others waiting.
  const slow = ['--shared', '8', '--object', 'throttle-group,id=slow,x-iops-total=1000'];
  const options = `driver=throttle,throttle-group=slow,file.driver=file,file.filename=${image}`;
  const restart = () => startQemuNbd(scope, options, 'options', 'tcp', slow, port);
  let backend = await restart();
  const device = await connect(scope, backend.target, ...PATIENTLY);
  const fail = async (): Promise<void> => {
    await killBackend(backend);
    await untilState(device, /HOLDING/);
    backend = await restart();
    await untilState(device, /CONNECTED/);
  };
  await verifyThrough(device, QEMU_KILLS, fail, { size: '16M' });
  await device.disconnect();
});

claim('when the wait is over I/O is EIO at once, and works again later', async (scope) => {
  const port = await freePort();
  const words = ['pattern', String(16 * MIB)];
  const backend = await startNbdkit(scope, words, 'tcp', port);
  const device = await connect(scope, backend.target, '--reconnect-delay', '2');
  const file = new DirectFile(device.path);
  scope.defer(() => file.close());
  // The wait begins when the connection ends, before the kill is known here.
  const startedAtMs = Date.now();
  await killBackend(backend);
  assert.equal(
    errorOf(() => file.read(MIB, 4096)),
    'EIO',
  );
  const waitedMs = Date.now() - startedAtMs;
  // Below what is waited for where nothing was asked for.
  assert(waitedMs > 1900 && waitedMs < 28_000, `it waited ${waitedMs} ms`);
  await untilState(device, /FAILING/);
  assert.equal(
    errorOf(() => file.read(MIB, 4096)),
    'EIO',
  );
  await startNbdkit(scope, words, 'tcp', port);
  await untilState(device, /CONNECTED/);
  assert.equal(file.read(MIB, 4096).readBigUInt64BE(0), BigInt(MIB), 'the right bytes again');
  file.close();
  await device.disconnect();
});

claim('the server process dies while the backend is away: the wait goes on', async (scope) => {
  const port = await freePort();
  const words = ['pattern', String(16 * MIB)];
  const backend = await startNbdkit(scope, words, 'tcp', port);
  const device = await connect(scope, backend.target, '--reconnect-delay', 'inf');
  await killBackend(backend);
  const wanted = ['dd', 'status=none', 'bs=4096', 'count=1', 'skip=256', 'iflag=direct'];
  const reading = run([...wanted, `if=${device.path}`, `of=${scope.path('read')}`]);
  await untilState(device, /HOLDING/);
  const { serverPid } = await listed(device.path);
  process.kill(serverPid, 'SIGKILL');
  await until('a successor holds', async () => {
    const { state, serverPid: now } = await listed(device.path);
    return state === 'HOLDING' && now !== serverPid;
  });
  await startNbdkit(scope, words, 'tcp', port);
  assert.equal((await reading).status, 0, 'the read that waited');
  assert.equal(readFileSync(scope.path('read')).readBigUInt64BE(0), BigInt(MIB));
  await device.disconnect();
});

claimToo(
  'it dies while the backend is away: EIO comes when the wait ends, not later',
  async (scope) => {
    // Long enough for a slow processor to have a successor by then, which fails what waits; and
    // for a machine to stand still for a while before that shows as a wait that began anew.
    const waitMs = 40_000;
    const backend = await startNbdkit(scope, ['memory', '16M']);
    const device = await connect(scope, backend.target, '--reconnect-delay', String(waitMs / 1000));
    const pid = await serverPid(device);
    const startedAtMs = Date.now();
    await killBackend(backend);
    const reading = dd(`if=${device.path}`, 'of=/dev/null', 'bs=4096', 'count=1', 'iflag=direct');
    // Late enough that a wait which began anew with the successor would show.
    await delay(waitMs / 2);
    process.kill(pid, 'SIGKILL');
    const { stderr } = await reading;
    const tookMs = Date.now() - startedAtMs;
    assert.match(stderr, /Input\/output error/);
    assert(tookMs > waitMs - 500 && tookMs < 1.45 * waitMs, `it took ${tookMs} ms`);
    assert.notEqual(await serverPid(device), pid);
    await device.disconnect('--force');
  },
);

claimToo('another image behind the same address is FATAL, and is never read', async (scope) => {
  for (const [first, second, reason] of [
    [['memory', '16M'], ['memory', '8M'], /smaller/],
    [['memory', '16M'], ['-r', 'memory', '16M'], /read-only/],
    [['-r', 'pattern', '16M'], ['-r', 'memory', '16M'], /another content/],
  ] as const) {
    const port = await freePort();
    const backend = await startNbdkit(scope, first, 'tcp', port);
    const device = await connect(scope, backend.target);
    await killBackend(backend);
    const other = await startNbdkit(scope, second, 'tcp', port);
    await untilState(device, /FATAL/);
    assert.match((await listed(device.path)).reason ?? '', reason);
    const file = new DirectFile(device.path);
    assert.equal(
      errorOf(() => file.read(0, 4096)),
      'EIO',
    );
    file.close();
    await device.disconnect('--force');
    await other.stop();
  }
});
