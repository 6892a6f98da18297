/**
 * Claim: what cannot work is told in one line on stderr that says what to do, with the documented
 * exit status, and leaves nothing behind.
 * Method: each way to be wrong, through the command line; `claim` looks for leftovers after every
 * one.
 */
import { freePort, startNbdkit, startQemuNbd } from '../support/backends.ts';
import { claim, claimToo } from '../support/claim.ts';
import { startMute } from '../support/mute-backend.ts';
import { must, run, shell } from '../support/process.ts';
import { assertRefused, commandOf, commandOfNobody, connect, ublkNbd } from '../support/product.ts';

/**
 * A line of arguments that is wrong by itself, its code and exit status, and what the line has to
 * tell.
 */
const wrongArguments: readonly (readonly [string, string[], string, number, RegExp])[] = [
  ['a malformed target', ['connect', 'nbd://:x/'], 'UNBD_TARGET_MALFORMED', 2, /nbd:\/\//],
  ['an unknown scheme', ['connect', 'gopher://h/'], 'UNBD_TARGET_MALFORMED', 2, /gopher/],
  ["nbd-client's connect HOST PORT", ['connect', 'h', '10809'], 'UNBD_USAGE', 2, /connect h:10809/],
  ["nbd-client's list HOST", ['list', 'h'], 'UNBD_USAGE', 2, /ublk-nbd info h/],
  [
    'an unknown host',
    ['connect', 'nothing.invalid'],
    'UNBD_BACKEND_UNKNOWN_HOST',
    5,
    /nothing\.in/,
  ],
  ['a missing unix socket', unixTarget('/nowhere'), 'UNBD_BACKEND_UNREACHABLE', 5, /\/nowhere/],
  ['a missing file', ['connect', 'file:/nowhere'], 'UNBD_EXPORT_UNKNOWN', 7, /\/nowhere/],
  ['disconnect of something absent', ['disconnect', '77'], 'UNBD_DEVICE_ABSENT', 10, /77/],
  ['umount of what is not mounted', ['umount', '/'], 'UNBD_MOUNT_FAILED', 12, /umount \//],
];

function unixTarget(path: string): string[] {
  return ['connect', `nbd+unix:///?socket=${path}`];
}

for (const [what, args, code, status, text] of wrongArguments) {
  claim(`${what} is refused as ${code}`, async () => {
    assertRefused(await ublkNbd(args), code, status, text);
  });
}

claim('a refused port is UNBD_BACKEND_UNREACHABLE', async () => {
  const port = await freePort();
  const outcome = await ublkNbd(['connect', `127.0.0.1:${port}`]);
  assertRefused(outcome, 'UNBD_BACKEND_UNREACHABLE', 5, new RegExp(`127\\.0\\.0\\.1:${port}`));
});

claimToo('an unknown export is refused with the names of those there are', async (scope) => {
  const image = scope.path('disk.img');
  await shell(`truncate -s 1M ${image}`);
  const words = ['--export-name', 'golden-image'];
  const backend = await startQemuNbd(scope, image, 'raw', 'tcp', words);
  const outcome = await ublkNbd(['connect', `${backend.target}/other`]);
  assertRefused(outcome, 'UNBD_EXPORT_UNKNOWN', 7, /golden-image/);
});

for (const [what, words, code, status, text] of [
  ['an oldstyle backend', ['--oldstyle', 'memory', '1M'], 'UNBD_BACKEND_OLDSTYLE', 6, /oldstyle/],
  ['an empty export', ['memory', '0'], 'UNBD_EXPORT_UNUSABLE', 7, /empty|size (is )?0/],
  ['an odd size', ['memory', '1049000'], 'UNBD_EXPORT_UNUSABLE', 7, /1049000.*512/],
] as const) {
  claimToo(`${what} is refused as ${code}`, async (scope) => {
    const backend = await startNbdkit(scope, words);
    assertRefused(await ublkNbd(['connect', backend.target]), code, status, text);
  });
}

claimToo(
  'a backend that greets and then hangs meets the deadline of the handshake',
  async (scope) => {
    const { target } = await startMute(scope, 'NBDMAGIC');
    const outcome = await ublkNbd(['connect', target]);
    assertRefused(outcome, 'UNBD_BACKEND_TIMEOUT', 5, new RegExp(target));
  },
);

claimToo('what is no NBD backend is refused as UNBD_BACKEND_PROTOCOL', async (scope) => {
  const { target } = await startMute(scope, 'SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n');
  assertRefused(await ublkNbd(['connect', target]), 'UNBD_BACKEND_PROTOCOL', 6, /NBD/);
});

claimToo('an id that is taken is refused as UNBD_DEVICE_EXISTS', async (scope) => {
  const device = await connect(scope, 'null:16M', '--id', '5');
  const outcome = await ublkNbd(['connect', 'null:16M', '--id', '5']);
  assertRefused(outcome, 'UNBD_DEVICE_EXISTS', 8, /5/);
  await device.disconnect();
});

claim('without root connect is refused as UNBD_NO_PERMISSION', async (scope) => {
  const outcome = await run(await commandOfNobody(scope, 'connect', 'null:16M'));
  assertRefused(outcome, 'UNBD_NO_PERMISSION', 3, /root|sudo/);
});

claim('io_uring switched off is UNBD_IO_URING_DISABLED and names the sysctl', async (scope) => {
  await must(['sysctl', '-q', '-w', 'kernel.io_uring_disabled=2']);
  scope.defer(async () => void (await must(['sysctl', '-q', '-w', 'kernel.io_uring_disabled=0'])));
  const outcome = await ublkNbd(['connect', 'null:16M']);
  assertRefused(outcome, 'UNBD_IO_URING_DISABLED', 4, /kernel\.io_uring_disabled/);
});

claim('without the driver connect is refused as UNBD_NO_DRIVER', async (scope) => {
  // A run folder of its own, so that a controller is started that lives where the driver cannot be
  // seen.
  const runFolder = scope.path('run');
  const hide = [
    'mount -t tmpfs -o mode=755 none /dev; mknod -m 666 /dev/null c 1 3; mknod /dev/urandom c 1 9',
    'mount -t tmpfs none /lib/modules 2>/dev/null || true',
    'rmmod ublk_drv 2>/dev/null || (mount -t tmpfs none /sys/class; mkdir /sys/class/block)',
    `exec ${commandOf('connect', 'null:16M').join(' ')}`,
  ];
  scope.defer(async () => void (await run(['modprobe', '-q', 'ublk_drv'])));
  const outcome = await run(['unshare', '--mount', '/bin/bash', '-c', hide.join('\n')], {
    env: { UBLK_NBD_RUN_DIR: runFolder, UBLK_NBD_IDLE_EXIT_MS: '5000' },
  });
  assertRefused(outcome, 'UNBD_NO_DRIVER', 4, /ublk_drv|ublk-control/);
});
