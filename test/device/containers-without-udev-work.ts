/**
 * Claim: where nobody makes device nodes, connect makes its own and removes it again; where it may
 * not, it says which flags the container needs.
 * Method: a mount namespace whose /dev is a bare tmpfs with the driver's control device alone, as
 * in a container.
 */
import assert from 'node:assert/strict';
import { claim, claimToo } from '../support/claim.ts';
import { describe, type Outcome, run } from '../support/process.ts';
import { assertRefused, commandOf } from '../support/product.ts';
import type { Scope } from '../support/scope.ts';

const containerDev = `set -e
numbers=$(cat /sys/class/misc/ublk-control/dev)
mount -t tmpfs -o mode=755 none /dev
mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/zero c 1 5
mknod -m 666 /dev/random c 1 8; mknod -m 666 /dev/urandom c 1 9
mknod -m 600 /dev/ublk-control c "\${numbers%:*}" "\${numbers#*:}"
`;

/** Runs a script in such a container, with a controller of its own that ends soon after. */
function inContainer(scope: Scope, script: string): Promise<Outcome> {
  const env = { UBLK_NBD_RUN_DIR: scope.path('run'), UBLK_NBD_IDLE_EXIT_MS: '5000' };
  const words = ['unshare', '--mount', '--propagation', 'private', '/bin/bash', '-c'];
  return run([...words, containerDev + script], { env });
}

claim('connect makes the device node itself, and disconnect removes it', async (scope) => {
  const ublkNbd = commandOf().join(' ');
  const outcome = await inContainer(
    scope,
    `path=$(${ublkNbd} connect memory:16M)
     [ -b "$path" ]
     dd status=none if=/dev/zero of="$path" bs=64k count=1 oflag=direct
     ${ublkNbd} disconnect "$path"
     ls /dev`,
  );
  assert.equal(outcome.status, 0, describe(outcome));
  assert.doesNotMatch(outcome.stdout, /ublk[bc]\d/, 'the nodes are gone');
});

claimToo(
  'connect that may not make nodes names the flags that the container needs',
  async (scope) => {
    const without = 'setpriv --bounding-set=-mknod --inh-caps=-mknod';
    const outcome = await inContainer(
      scope,
      `exec ${without} ${commandOf('connect', 'memory:16M').join(' ')}`,
    );
    assertRefused(outcome, 'UNBD_NO_DEVICE_NODE', 4, /--device|-v \/dev|MKNOD/i);
  },
);
