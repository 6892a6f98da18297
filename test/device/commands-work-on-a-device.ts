/**
 * Claim: the commands do with a real device what their help says: names, JSON, info, mount,
 * doctor, foreground.
 * Method: each through the command line, checked by what the machine shows.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { startNbdkit } from '../support/backends.ts';
import { MIB } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { makeFilesystem } from '../support/filesystem.ts';
import { describe, must, shell, start, until } from '../support/process.ts';
import {
  assertRefused,
  commandOfNobody,
  deviceOf,
  type ListedDevice,
  list,
  startUblkNbd,
  ublkNbd,
  ublkNbdMust,
} from '../support/product.ts';

claim('doctor finds nothing that is missing here', async () => {
  const checks = JSON.parse(await ublkNbdMust('doctor', '--json')) as {
    name: string;
    ok: boolean;
    required: boolean;
  }[];
  assert.deepEqual(
    checks.filter(({ ok, required }) => required && !ok),
    [],
  );
});

claimToo('a name is a stable link, and names the device in every command', async (scope) => {
  const backend = await startNbdkit(scope, ['memory', '16M']);
  const outcome = await ublkNbd(['connect', backend.target, '--name', 'vault', '--json'], {
    env: {},
  });
  assert.equal(outcome.status, 0, describe(outcome));
  const device = JSON.parse(outcome.stdout) as ListedDevice;
  deviceOf(scope, device.id);
  assert.equal(Number(device.sizeBytes), 16 * MIB);
  assert.equal(device.name, 'vault');
  assert.equal(
    realpathSync('/dev/ublk-nbd/vault'),
    device.path,
    readlinkSync('/dev/ublk-nbd/vault'),
  );
  const [listed, ...others] = await list();
  assert.deepEqual([listed?.path, listed?.name, others], [device.path, 'vault', []]);
  assert.match(await ublkNbdMust('list'), new RegExp(`${device.path} .*CONNECTED.*vault`));
  const again = await ublkNbd(['connect', 'null:1M', '--name', 'vault']);
  assertRefused(again, 'UNBD_DEVICE_EXISTS', 8, /vault/);
  await ublkNbdMust('disconnect', 'vault');
  assert(!existsSync('/dev/ublk-nbd/vault'));
});

claim('mount connects and mounts, umount undoes both', async (scope) => {
  const image = scope.path('disk.img');
  const folder = scope.path('mnt');
  mkdirSync(folder);
  await shell(`truncate -s 64M ${image}`);
  await makeFilesystem('ext4', image);
  const backend = await startNbdkit(scope, ['file', image]);
  const path = (await ublkNbdMust('mount', backend.target, folder, '-o', 'noatime')).trim();
  assert.match(
    readFileSync('/proc/self/mounts', 'utf8'),
    new RegExp(`^${path} ${folder} .*noatime`, 'm'),
  );
  await shell(`echo kept >${folder}/file`);
  await ublkNbdMust('umount', folder);
  assert(!existsSync(path), 'umount disconnects what mount connected');
  assert.deepEqual(await list(), []);
  assert.equal(await shell(`debugfs -R 'cat /file' ${image} 2>/dev/null`), 'kept\n');

  const empty = await startNbdkit(scope, ['memory', '16M']);
  const failed = await ublkNbd(['mount', empty.target, folder]);
  assertRefused(failed, 'UNBD_MOUNT_FAILED', 12, /mount/);
  assert.deepEqual(await list(), [], 'a mount that fails leaves no device');
});

claim('disconnect refuses a mounted device, and --force ends it all the same', async (scope) => {
  const image = scope.path('disk.img');
  const folder = scope.path('mnt');
  mkdirSync(folder);
  await shell(`truncate -s 64M ${image}`);
  await makeFilesystem('ext4', image);
  const backend = await startNbdkit(scope, ['file', image]);
  const path = (await ublkNbdMust('connect', backend.target)).trim();
  deviceOf(scope, Number(/\d+$/.exec(path)?.[0]));
  await shell(`mount ${path} ${folder}`);
  scope.defer(async () => void (await shell(`umount -l ${folder} 2>/dev/null || true`)));
  assertRefused(await ublkNbd(['disconnect', path]), 'UNBD_DEVICE_BUSY', 9, /mount|use/);
  await shell(`echo works >${folder}/file; sync -f ${folder}/file`);
  await ublkNbdMust('disconnect', path, '--force');
  await shell(`umount ${folder}`);
});

/** Receives sd_notify(3) datagrams and prints them; node has no datagram sockets of this kind. */
const NOTIFY_RECEIVER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('bound', flush=True)
while True: print(s.recv(4096).decode(), flush=True)
`;

claimToo(
  '--foreground says READY=1 when the device can be opened, and SIGTERM ends it',
  async (scope) => {
    const backend = await startNbdkit(scope, ['memory', '16M']);
    const socket = scope.path('notify');
    const receiver = start(scope, ['python3', '-c', NOTIFY_RECEIVER, socket]);
    await until('the receiver is bound', () => receiver.stdout().includes('bound'));
    const env = { NOTIFY_SOCKET: socket };
    const running = startUblkNbd(scope, ['connect', backend.target, '--foreground'], { env });
    await until('READY=1', () => /READY=1/.test(receiver.stdout()), 120_000);
    // Two ways to this process, of which either may be the quicker.
    await until('the path is printed', () => running.stdout().endsWith('\n'));
    const path = running.stdout().trim();
    assert.match(path, /^\/dev\/ublkb\d+$/, running.stderr());
    await shell(`dd status=none if=${path} of=/dev/null bs=64k count=1 iflag=direct`);
    assert.deepEqual(
      (await list()).map((device) => device.path),
      [path],
      'list shows it too',
    );
    running.kill('SIGTERM');
    const outcome = await running.exited;
    assert.equal(outcome.status, 0, describe(outcome));
    assert(!existsSync(path));
  },
);

claimToo('info tells size and features without a device, and without root', async (scope) => {
  const backend = await startNbdkit(scope, ['memory', '16M']);
  const text = await must(await commandOfNobody(scope, 'info', backend.target, '--json'));
  const info = JSON.parse(text) as { sizeBytes: number; canFlush: boolean; canTrim: boolean };
  assert.deepEqual([info.sizeBytes, info.canFlush, info.canTrim], [16 * MIB, true, true]);
});
