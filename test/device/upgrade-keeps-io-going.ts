/**
 * Claim: `upgrade` gives devices to server processes, and the host to a controller, of the
 * installed version while I/O goes on; one that cannot serve is refused with nothing changed.
 * Method: copies of the package under other version numbers, one that speaks the next version of
 * the messages, one with a broken addon; fio with its checksums goes on meanwhile.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { isBrief, isFull } from '../support/amount.ts';
import { freePort, startNbdkit, startQemuNbd } from '../support/backends.ts';
import { MIB, sysfsText } from '../support/block.ts';
import { claim } from '../support/claim.ts';
import { DirectFile } from '../support/direct-file.ts';
import { fioVerify } from '../support/fio.ts';
import { controllerPid } from '../support/leftovers.ts';
import { copyPackage } from '../support/package-copy.ts';
import { describe, type Outcome, run, shell, start, until } from '../support/process.ts';
import {
  assertRefused,
  commandIn,
  connect,
  type Device,
  listed,
  packageFolder,
  startUblkNbd,
  ublkNbd,
  ublkNbdMust,
} from '../support/product.ts';

const UPGRADES = isFull ? 40 : isBrief ? 3 : 12;

/** `upgrade` of the package in `folder`. */
function upgrade(folder: string, ...args: readonly string[]): Promise<Outcome> {
  const words = ['upgrade', ...args];
  return folder === packageFolder ? ublkNbd(words) : run(commandIn(folder, words));
}

async function upgradeMust(folder: string, ...args: readonly string[]): Promise<string> {
  const outcome = await upgrade(folder, ...args);
  assert.equal(outcome.status, 0, describe(outcome));
  return outcome.stdout;
}

function inFlight(device: Device): number {
  const counts = sysfsText(device.node, 'inflight').split(/\s+/).map(Number);
  return counts.reduce((sum, count) => sum + count, 0);
}

claim(`fio verifies while everything is upgraded ${UPGRADES} times`, async (scope) => {
  const words = ['--filter=delay', 'memory', '64M', 'rdelay=20ms', 'wdelay=20ms'];
  const device = await connect(scope, (await startNbdkit(scope, words)).target);
  const next = copyPackage(scope, { version: '99.1.0', speaksNext: true });
  const { serverVersion: own } = await listed(device.path);
  let isDone = false;
  const pauses: number[] = [];
  const upgrading = async (): Promise<void> => {
    for (let count = 0; count < UPGRADES && !isDone; count += 1) {
      const folder = count % 2 === 0 ? next : packageFolder;
      const [before, controller] = [await listed(device.path), controllerPid()];
      await until('16 requests are in flight', () => isDone || inFlight(device) >= 16);
      const told = await upgradeMust(folder, count % 3 === 0 ? device.path : '--all');
      pauses.push(Number(/paused (\d+) ms/.exec(told)?.[1]));
      const after = await listed(device.path);
      assert.equal(after.state, 'CONNECTED');
      assert.notEqual(after.serverPid, before.serverPid);
      assert.notEqual(controllerPid(), controller, 'another controller too');
      assert.equal(after.serverVersion, folder === next ? '99.1.0' : own);
    }
    isDone = true;
  };
  const verifying = async (): Promise<void> => {
    const options = { size: '48M', iodepth: 32, fsync: 32, bsrange: '512-64k' };
    while (!isDone) await fioVerify(device.path, options);
  };
  const both = [upgrading(), verifying()].map((one) => one.finally(() => (isDone = true)));
  const [first] = (await Promise.allSettled(both)).filter(({ status }) => status === 'rejected');
  if (first?.status === 'rejected') throw first.reason;
  assert.equal(pauses.length, UPGRADES);
  process.stdout.write(`# pauses of ${UPGRADES} upgrades, ms: ${pauses.join(' ')}\n`);
  const log = await ublkNbdMust('logs', device.path);
  assert.equal(log.match(/upgraded: process \d+ \(/g)?.length, UPGRADES);
  await device.disconnect();
});

claim(
  'no request is sent twice: the old server process leaves nothing in flight',
  async (scope) => {
    const log = scope.path('requests');
    const words = ['--filter=log', '--filter=delay', 'memory', '16M', `logfile=${log}`];
    const { target } = await startNbdkit(scope, [...words, 'wdelay=200ms']);
    const device = await connect(scope, target, '--unflushed', 'trust');
    const each = `dd if=/dev/zero of=${device.path} bs=4k count=1 oflag=direct status=none seek=$i`;
    const writing = start(scope, ['bash', '-ec', `for i in $(seq 2000); do ${each}; done`]);
    await until('it writes', () => inFlight(device) > 0);
    await upgradeMust(packageFolder, device.path);
    const sent = (): RegExpMatchArray[] => [
      ...readFileSync(log, 'utf8').matchAll(/connection=(\d+) Write id=\d+ offset=(\w+) /g),
    ];
    await until('two connections wrote', () => new Set(sent().map(([, one]) => one)).size === 2);
    writing.kill('SIGTERM');
    await writing.exited;
    const offsets = sent().map(([, , offset]) => offset);
    assert.equal(new Set(offsets).size, offsets.length);
    await device.disconnect();
  },
);

claim('a backend that does not answer ends the upgrade, and what waited goes on', async (scope) => {
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
});

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

claim('of two upgrades at once at least one is done, and the device is well', async (scope) => {
  const device = await connect(scope, (await startNbdkit(scope, ['memory', '16M'])).target);
  const { serverPid } = await listed(device.path);
  const both = await Promise.all([1, 2].map(() => upgrade(packageFolder, '--all')));
  const refused = both.filter(({ status }) => status !== 0);
  assert(refused.length < 2, both.map(describe).join('\n'));
  for (const outcome of refused) {
    assertRefused(outcome, 'UNBD_DEVICE_BUSY', 9, /another upgrade is under way/);
  }
  const after = await listed(device.path);
  assert.equal(after.state, 'CONNECTED');
  assert.notEqual(after.serverPid, serverPid);
  await device.disconnect();
});

claim('while the backend is away the server process stays, and the wait goes on', async (scope) => {
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
});

claim('a backend that takes one client only is no obstacle, and the log says so', async (scope) => {
  const image = scope.path('image');
  await shell(`truncate -s 16M ${image}`);
  const silent = () => startQemuNbd(scope, image, 'raw', 'tcp', ['--shared', '1']);
  const closing = () => startNbdkit(scope, ['--filter=limit', 'memory', '16M', 'limit=1']);
  for (const [index, backend] of (isBrief ? [silent] : [silent, closing]).entries()) {
    const device = await connect(scope, (await backend()).target, '--queues', '1');
    const file = new DirectFile(device.path);
    const block = Buffer.alloc(4096, 'kept');
    file.write(8192, block);
    await upgradeMust(packageFolder, device.path);
    assert(file.read(8192, 4096).equals(block));
    file.close();
    const log = await ublkNbdMust('logs', device.path);
    assert.equal(log.match(/takes no second client/g)?.length, index + 1);
    await device.disconnect();
  }
});

claim('a backend that has another image by now: the old server process stays', async (scope) => {
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

claim('devices that cannot be handed over are told, the others are upgraded', async (scope) => {
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

claim('a controller of a service manager is left to it', async (scope) => {
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
