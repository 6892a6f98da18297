/**
 * Claim: an upgrade that could fail a request, or serve another image, is refused, with the old
 * server process still serving; a refusal for one device does not keep the others.
 * Method: a copy of the package with a broken addon; backends that are away, stand still, or have
 * another image; devices that were made to end with their server process.
 */
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort, startNbdkit } from '../support/backends.ts';
import { MIB } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { DirectFile } from '../support/direct-file.ts';
import { controllerPid } from '../support/leftovers.ts';
import { copyPackage, upgrade, upgradeMust } from '../support/package-copy.ts';
import { packageFolder } from '../support/package-folder.ts';
import { describe, type Outcome, run, shell, until } from '../support/process.ts';
import { assertRefused, connect, type Device, listed, startUblkNbd } from '../support/product.ts';

claimToo(
  'a backend that does not answer ends the upgrade, and what waited goes on',
  async (scope) => {
    const backend = await startNbdkit(scope, ['memory', '16M']);
    const device = await connect(scope, backend.target, '--handshake-timeout', '2');
    const { serverPid } = await listed(device.path);
    process.kill(backend.pid, 'SIGSTOP');
    const upgrading = upgrade(packageFolder, device.path);
    let isDone = false;
    void upgrading.finally(() => (isDone = true));
    const readers: Promise<Outcome>[] = [];
    // Some reach the queues before they are quiesced, others while they are.
    while (!isDone) {
      const where = [`if=${device.path}`, 'of=/dev/null', `skip=${readers.length}`];
      readers.push(run(['dd', ...where, 'bs=4k', 'count=1', 'iflag=direct', 'status=none']));
      await delay(250);
    }
    const outcome = await upgrading;
    process.kill(backend.pid, 'SIGCONT');
    assert.equal(outcome.status, 5, describe(outcome));
    assert.match(outcome.stderr, /were not answered in 5 s; nothing was changed/);
    for (const reader of readers) assert.equal((await reader).status, 0);
    assert.equal((await listed(device.path)).serverPid, serverPid);
    await device.disconnect();
  },
);

claim('a new version that cannot serve is refused, and the old one serves on', async (scope) => {
  const device = await connect(scope, (await startNbdkit(scope, ['memory', '16M'])).target);
  const broken = copyPackage(scope, { version: '99.2.0', isBroken: true });
  const [before, controller] = [await listed(device.path), controllerPid()];
  const outcome = await upgrade(broken, '--all');
  const line = assertRefused(outcome, 'UNBD_SERVER_PROCESS', 11, /99\.2\.0 cannot take over/);
  assert.match(line, /nothing was changed: .*addon cannot be loaded/);
  assert.deepEqual(await listed(device.path), before);
  assert.equal(controllerPid(), controller);
  const file = new DirectFile(device.path);
  file.write(0, Buffer.alloc(4096, 'still here'));
  file.close();
  await device.disconnect();
});

claimToo(
  'while the backend is away the server process stays, and the wait goes on',
  async (scope) => {
    const port = await freePort();
    const words = ['pattern', String(16 * MIB)];
    const backend = await startNbdkit(scope, words, 'tcp', port);
    const device = await connect(scope, backend.target, '--reconnect-delay', 'inf');
    const { serverPid } = await listed(device.path);
    process.kill(backend.pid, 'SIGKILL');
    await until('it holds', async () => (await listed(device.path)).state === 'HOLDING');
    const outcome = await upgrade(packageFolder, device.path);
    assert.equal(outcome.status, 5, describe(outcome));
    assert.match(outcome.stderr, /HOLDING.*back \[UNBD_BACKEND_UNREACHABLE\]\n$/);
    assert.equal((await listed(device.path)).serverPid, serverPid);
    assert.equal((await listed(device.path)).state, 'HOLDING', 'the new controller knows');
    await startNbdkit(scope, words, 'tcp', port);
    const file = new DirectFile(device.path);
    assert.equal(file.read(MIB, 4096).readBigUInt64BE(0), BigInt(MIB));
    file.close();
    await device.disconnect();
  },
);

claimToo('a backend that has another image by now: the old server process stays', async (scope) => {
  const image = scope.path('image');
  await shell(`truncate -s 16M ${image}`);
  const device = await connect(scope, (await startNbdkit(scope, ['file', image])).target);
  const before = await listed(device.path);
  await shell(`truncate -s 8M ${image}`);
  const outcome = await upgrade(packageFolder, device.path);
  assert.equal(outcome.status, 7, describe(outcome));
  assert.match(outcome.stderr, /nothing was changed: .*smaller now.*\[UNBD_EXPORT_UNUSABLE\]\n$/);
  assert.deepEqual(await listed(device.path), before);
  await device.disconnect();
});

claimToo('devices that cannot be handed over are told, the others are upgraded', async (scope) => {
  const { target } = await startNbdkit(scope, ['memory', '16M']);
  const wanted = await connect(scope, target);
  const stays = [
    await connect(scope, 'memory:16M'),
    await connect(scope, target, '--on-crash', 'fail'),
    await connect(scope, target, '--resend-writes', 'no'),
  ];
  const own = startUblkNbd(scope, ['connect', target, '--foreground', '--id', '77']);
  await until('it is connected', () => own.stdout() !== '');
  const pids = async (devices: readonly Device[]): Promise<number[]> =>
    Promise.all(devices.map(async ({ path }) => (await listed(path)).serverPid));
  const [before, [old]] = [await pids(stays), await pids([wanted])];
  const outcome = await upgrade(packageFolder, '--all');
  assert.notEqual(outcome.status, 0);
  assert.match(outcome.stdout, new RegExp(`^controller: .*\n${wanted.path}: process ${old} `));
  const lines = outcome.stderr.trim().split('\n');
  assert.equal(lines.length, 4, describe(outcome));
  const reasons = [
    /memory: is lost/,
    /--on-crash fail/,
    /--resend-writes no/,
    /cannot be replaced/,
  ];
  for (const [index, reason] of reasons.entries()) assert.match(lines[index] ?? '', reason);
  assert.deepEqual(await pids(stays), before, 'they are served as before');
  assert.notDeepEqual(await pids([wanted]), [old]);
  assert.equal((await own.stop()).status, 0);
  for (const device of [wanted, ...stays]) await device.disconnect();
});

claimToo('a controller of a service manager is left to it', async (scope) => {
  const pid = controllerPid();
  if (pid !== undefined) process.kill(pid, 'SIGKILL');
  await until('no controller runs', () => controllerPid() === undefined);
  const daemon = startUblkNbd(scope, ['daemon', '--foreground', '--log-file', '-']);
  await until('it runs', () => /is the controller/.test(daemon.stderr()));
  const device = await connect(scope, (await startNbdkit(scope, ['memory', '16M'])).target);
  const { serverPid } = await listed(device.path);
  await upgradeMust(packageFolder, device.path);
  assert.notEqual((await listed(device.path)).serverPid, serverPid, 'of its own version: upgraded');
  const next = copyPackage(scope, { version: '99.3.0' });
  assertRefused(await upgrade(next, '--all'), 'UNBD_CONTROLLER', 11, /daemon --foreground/);
  await device.disconnect();
  assert.equal((await daemon.stop()).status, 0);
});
