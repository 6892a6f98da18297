/**
 * Claim: the controller's death changes nothing for a device, and the next command tells the
 * truth.
 * Method: kill -9 of the controller under fio with its checksums, alone and together with the
 * server process, with a device up, with one whose server process died
 * meanwhile, and two connects that both find no controller.
 */
import assert from 'node:assert/strict';
import { readFileSync, readlinkSync } from 'node:fs';
import { isBrief, isFull } from '../support/amount.ts';
import { startNbdkit } from '../support/backends.ts';
import { claim, claimToo } from '../support/claim.ts';
import { DirectFile } from '../support/direct-file.ts';
import { killController, serverPid, untilServedByAnother, untilState } from '../support/kills.ts';
import { controllerPid } from '../support/leftovers.ts';
import { describe, until } from '../support/process.ts';
import {
  assertRefused,
  connect,
  deviceOf,
  list,
  listed,
  ublkNbd,
  ublkNbdMust,
} from '../support/product.ts';
import { SlowNbdkit } from '../support/slow-nbdkit.ts';
import { verifyThrough } from '../support/under-load.ts';

const KILLS = isFull ? 20 : isBrief ? 2 : 6;

claimToo(
  'list after kill -9 of the controller is the truth, for the living and the dead',
  async (scope) => {
    const backend = await startNbdkit(scope, ['memory', '16M']);
    const living = await connect(scope, backend.target, '--name', 'living');
    const dying = await connect(scope, 'memory:16M');
    const file = new DirectFile(living.path);
    scope.defer(() => file.close());
    const block = Buffer.alloc(4096, 'still here');
    file.write(0, block);
    const { serverPid } = await listed(dying.path);
    await killController();
    process.kill(serverPid, 'SIGKILL');
    assert(file.read(0, 4096).equals(block), 'I/O goes on without a controller');

    assert.equal((await listed(living.path)).state, 'CONNECTED');
    assert.equal((await listed(living.path)).name, 'living');
    await until('list tells', async () => (await listed(dying.path)).state === 'DEAD');
    file.close();
    await living.disconnect();
    await ublkNbdMust('disconnect', dying.path);
    assert.deepEqual(await list(), []);
  },
);

claimToo(
  'a server process brings it back, and dies later: nobody has to run a command',
  async (scope) => {
    const device = await connect(scope, (await startNbdkit(scope, ['memory', '16M'])).target);
    const file = new DirectFile(device.path);
    scope.defer(() => file.close());
    const block = Buffer.alloc(4096, 'still here');
    file.write(0, block);
    const before = await serverPid(device);
    const log = '/run/ublk-nbd/log/ublk-nbd.log';
    const adoptions = (): number => readFileSync(log, 'utf8').match(/ adopted: /g)?.length ?? 0;
    const adoptedBefore = adoptions();
    await killController();
    await until('another has adopted the device', () => adoptions() > adoptedBefore);
    const controller = `/proc/${controllerPid()}`;
    assert.equal(readlinkSync(`${controller}/ns/mnt`), readlinkSync('/proc/self/ns/mnt'));
    assert.equal(readFileSync(`${controller}/oom_score_adj`, 'utf8'), '0\n');
    process.kill(before, 'SIGKILL');
    assert(file.read(0, 4096).equals(block), 'I/O waits for a successor, and goes on');
    file.close();
    assert.notEqual(await serverPid(device), before);
    await device.disconnect();
  },
);

claimToo('two connects at once make two devices under one controller', async (scope) => {
  const pid = controllerPid();
  if (pid !== undefined) await killController();
  const backend = await startNbdkit(scope, ['memory', '16M']);
  const both = await Promise.all([1, 2].map(() => ublkNbd(['connect', backend.target])));
  const ids = both.map((outcome) => {
    assert.equal(outcome.status, 0, describe(outcome));
    return Number(/^\/dev\/ublkb(\d+)\n$/.exec(outcome.stdout)?.[1]);
  });
  const devices = ids.map((id) => deviceOf(scope, id));
  assert.equal(new Set(ids).size, 2);
  assert.deepEqual((await list()).map(({ id }) => id).sort(), [...ids].sort());
  for (const device of devices) await device.disconnect();
});

claimToo('of two connects at once that want the same id, one gets it', async (scope) => {
  const connects = [1, 2].map(() => ublkNbd(['connect', 'null:16M', '--id', '7']));
  const [first, second] = (await Promise.all(connects)).sort((a, b) => a.status - b.status);
  assert(first && second);
  assert.equal(first.stdout, '/dev/ublkb7\n', describe(first));
  const device = deviceOf(scope, 7);
  assertRefused(second, 'UNBD_DEVICE_EXISTS', 8, /7/);
  await device.disconnect();
});

claim(
  `fio verifies while the controller is killed ${KILLS} times, half of them not alone`,
  async (scope) => {
    const backend = await SlowNbdkit.start(scope, 64);
    const device = await connect(scope, backend.target);
    let pid = await serverPid(device);
    const fail = async (round: number): Promise<void> => {
      const controller = controllerPid();
      assert(controller !== undefined, 'a controller runs');
      process.kill(controller, 'SIGKILL');
      if (round % 2 === 1) {
        process.kill(pid, 'SIGKILL');
        pid = await untilServedByAnother(device, pid);
        return;
      }
      // Its nbdkit may be away for a moment, by itself.
      await untilState(device, /CONNECTED/);
      assert.equal(await serverPid(device), pid, 'nothing has changed');
    };
    await verifyThrough(device, KILLS, fail, { size: '16M', isAtWork: backend.isAtWork });
    await device.disconnect();
  },
);
