/**
 * Claim: `upgrade` gives devices to server processes, and the host to a controller, of the
 * installed version while I/O goes on; no request fails, and none is sent twice.
 * Method: copies of the package under other version numbers, one of which speaks the next version
 * of the messages; fio with its checksums goes on meanwhile.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { isBrief, isFull, isLeast } from '../support/amount.ts';
import { startNbdkit, startQemuNbd } from '../support/backends.ts';
import { claim, claimToo, tellFigure } from '../support/claim.ts';
import { DirectFile } from '../support/direct-file.ts';
import { untilState } from '../support/kills.ts';
import { controllerPid } from '../support/leftovers.ts';
import { copyPackage, upgrade, upgradeMust } from '../support/package-copy.ts';
import { packageFolder } from '../support/package-folder.ts';
import { describe, shell, start, until } from '../support/process.ts';
import { assertRefused, connect, type Device, listed, ublkNbdMust } from '../support/product.ts';
import { inFlight, verifyThrough } from '../support/under-load.ts';

/** How often the log says so of a device of this path, of whatever test. */
async function told({ path }: Device, pattern: RegExp): Promise<number> {
  return (await ublkNbdMust('logs', path)).match(pattern)?.length ?? 0;
}

const upgradesTold = (device: Device) => told(device, /upgraded: process \d+ \(/g);
const skipsTold = (device: Device) => told(device, /takes no second client/g);

/** Each upgrade starts five processes. */
const TIMEOUT_MS = isFull ? 1_800_000 : 600_000;

const UPGRADES = isFull ? 40 : isLeast ? 1 : isBrief ? 2 : 12;

claim(
  `fio verifies while everything is upgraded ${UPGRADES} times`,
  async (scope) => {
    const words = ['--filter=delay', 'memory', '64M', 'rdelay=20ms', 'wdelay=20ms'];
    const { target } = await startNbdkit(scope, words);
    const device = await connect(scope, target, '--structured-replies');
    const next = copyPackage(scope, { version: '99.1.0', speaksNext: true });
    const { serverVersion: own } = await listed(device.path);
    const pauses: number[] = [];
    const before = await upgradesTold(device);
    await verifyThrough(device, UPGRADES, async (round) => {
      const folder = round % 2 === 0 ? next : packageFolder;
      const [before, controller] = [await listed(device.path), controllerPid()];
      const told = await upgradeMust(folder, round % 3 === 0 ? device.path : '--all');
      pauses.push(Number(/paused (\d+) ms/.exec(told)?.[1]));
      // A slow machine may be told that it is served, and has yet to find its backend.
      await untilState(device, /CONNECTED/);
      const after = await listed(device.path);
      assert.notEqual(after.serverPid, before.serverPid);
      assert.notEqual(controllerPid(), controller, 'another controller too');
      assert.equal(after.serverVersion, folder === next ? '99.1.0' : own);
    });
    assert.equal(pauses.length, UPGRADES);
    tellFigure(`pauses of ${UPGRADES} upgrades, ms: ${pauses.join(' ')}`);
    assert.equal((await upgradesTold(device)) - before, UPGRADES);
    await device.disconnect();
  },
  { timeoutMs: TIMEOUT_MS },
);

claimToo(
  'no request is sent twice: the old server process leaves nothing in flight',
  async (scope) => {
    const log = scope.path('requests');
    const words = ['--filter=log', '--filter=delay', 'memory', '16M', `logfile=${log}`];
    const { target } = await startNbdkit(scope, [...words, 'wdelay=200ms']);
    const device = await connect(scope, target, '--unflushed', 'trust');
    const each = `dd if=/dev/zero of=${device.path} bs=4k count=1 oflag=direct status=none seek=$i`;
    const writing = start(scope, ['bash', '-ec', `for i in $(seq 2000); do ${each}; done`]);
    const sent = (): RegExpMatchArray[] => [
      ...readFileSync(log, 'utf8').matchAll(/ Write id=\d+ offset=(\w+) /g),
    ];
    await until('it writes', () => inFlight(device).writes > 0);
    await upgradeMust(packageFolder, device.path);
    // What was sent by then came from the old server process, or at once from the new one.
    const before = sent().length;
    await until('the new server process writes', () => sent().length > before + 4);
    writing.kill('SIGTERM');
    await writing.exited;
    const offsets = sent().map(([, offset]) => offset);
    assert.equal(new Set(offsets).size, offsets.length);
    await device.disconnect();
  },
);

claimToo('of two upgrades at once at least one is done, and the device is well', async (scope) => {
  const device = await connect(scope, (await startNbdkit(scope, ['memory', '16M'])).target);
  const { serverPid } = await listed(device.path);
  const both = await Promise.all([1, 2].map(() => upgrade(packageFolder, '--all')));
  const refused = both.filter(({ status }) => status !== 0);
  assert(refused.length < 2, both.map(describe).join('\n'));
  for (const outcome of refused) {
    assertRefused(outcome, 'UNBD_DEVICE_BUSY', 9, /another upgrade is under way/);
  }
  await untilState(device, /CONNECTED/);
  assert.notEqual((await listed(device.path)).serverPid, serverPid);
  await device.disconnect();
});

claimToo(
  'a backend that takes one client only is no obstacle, and the log says so',
  async (scope) => {
    const image = scope.path('image');
    await shell(`truncate -s 16M ${image}`);
    const silent = () => startQemuNbd(scope, image, 'raw', 'tcp', ['--shared', '1']);
    const closing = () => startNbdkit(scope, ['--filter=limit', 'memory', '16M', 'limit=1']);
    for (const backend of isBrief ? [silent] : [silent, closing]) {
      const device = await connect(scope, (await backend()).target, '--queues', '1');
      const file = new DirectFile(device.path);
      const block = Buffer.alloc(4096, 'kept');
      file.write(8192, block);
      const before = await skipsTold(device);
      await upgradeMust(packageFolder, device.path);
      assert(file.read(8192, 4096).equals(block));
      file.close();
      // Once for each try: an upgrade may be put off.
      assert((await skipsTold(device)) > before);
      await device.disconnect();
    }
  },
);
