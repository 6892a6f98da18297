/**
 * Claim: over every kind of socket that NBD has an address for, the device verifies, and comes back
 * after a kill of its backend. IPv4 and unix sockets are those of most other tests.
 * Method: nbdkit on [::1], on the vsock loopback, and on an abstract unix socket.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { HERE_BY_IPV6, startNbdkit } from '../support/backends.ts';
import { MIB, makeImage } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { fioVerify } from '../support/fio.ts';
import { killBackend, PATIENTLY } from '../support/kills.ts';
import { start, until } from '../support/process.ts';
import { connect } from '../support/product.ts';

const LOAD = { iodepth: 16, size: '4m' };

for (const kind of ['IPv6', 'vsock'] as const) {
  const play = kind === 'vsock' ? claim : claimToo;
  play(`${kind} verifies, also after the backend was killed`, async (scope) => {
    // Built in, or a module that nothing loads by itself.
    spawnSync('modprobe', ['-q', 'vsock_loopback']);
    const image = scope.path('image');
    await makeImage(image, 16 * MIB, 6);
    const serve = (port?: number) =>
      kind === 'vsock'
        ? startNbdkit(scope, ['file', image], 'vsock', port)
        : startNbdkit(scope, ['file', image], 'tcp', port, HERE_BY_IPV6);
    const backend = await serve();
    const device = await connect(scope, backend.target, ...PATIENTLY);
    await fioVerify(device.path, LOAD);
    await killBackend(backend);
    await serve(Number(/:(\d+)\/?$/.exec(backend.target)?.[1]));
    await fioVerify(device.path, LOAD);
    await device.disconnect();
  });
}

/** Becomes nbdkit with a socket that listens under the abstract name, as a service manager does. */
const LISTEN_AND_BECOME = `
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind("\\0" + sys.argv[1])
listener.listen()
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])`;

claimToo('an abstract unix socket verifies', async (scope) => {
  const name = `/ublk-nbd-test-${process.pid}`;
  const nbdkit = ['nbdkit', '--foreground', '--exit-with-parent', 'memory', '16M'];
  start(scope, ['python3', '-c', LISTEN_AND_BECOME, name, ...nbdkit]);
  // By its flags: it is bound a moment before it listens.
  const line = new RegExp(` 00010000 \\d+ \\d+ +\\d+ @${name}$`, 'm');
  await until('nbdkit listens', () => line.test(readFileSync('/proc/net/unix', 'utf8')));
  const device = await connect(scope, `nbd+unix:///?socket=%00${name}`);
  await fioVerify(device.path, LOAD);
  await device.disconnect();
});
