/**
 * Claim: a device can be ended at any moment, by us or by the death of its server process, and
 * then it is gone.
 * Method: disconnect under fio, kill -9, the flags of its threads. ublksrv's generic/001, 002 and
 * 008.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { isBrief } from '../support/amount.ts';
import { startNbdkit } from '../support/backends.ts';
import { claim, claimToo } from '../support/claim.ts';
import { DirectFile, errorOf } from '../support/direct-file.ts';
import { fioWords } from '../support/fio.ts';
import { assertNothingLeft } from '../support/leftovers.ts';
import { describe, type Running, start, until } from '../support/process.ts';
import { assertRefused, connect, list, listed, ublkNbd, ublkNbdMust } from '../support/product.ts';
import type { Scope } from '../support/scope.ts';

const targets = ['nbd', 'memory:64M'] as const;

async function targetOf(scope: Scope, kind: (typeof targets)[number]): Promise<string> {
  return kind === 'nbd' ? (await startNbdkit(scope, ['memory', '64M'])).target : kind;
}

/** fio that goes on until the device is taken away; returns when it does I/O. */
async function startLoad(scope: Scope, path: string, node: string): Promise<Running> {
  const options = { rw: 'randrw', bs: '4k', iodepth: 32, time_based: 1, runtime: 300 };
  const running = start(scope, fioWords({ path, options }));
  const completed = (): number =>
    Number(readFileSync(`/sys/block/${node}/stat`, 'utf8').trim().split(/\s+/)[4]);
  await until('fio writes', () => completed() > 100, 120_000);
  return running;
}

for (const kind of isBrief ? targets.slice(0, 1) : targets) {
  claim(`${kind}: disconnect --force under load ends the device and the load`, async (scope) => {
    const device = await connect(scope, await targetOf(scope, kind));
    const load = await startLoad(scope, device.path, device.node);
    assertRefused(await ublkNbd(['disconnect', device.path]), 'UNBD_DEVICE_BUSY', 9, /open|use/);
    await device.disconnect('--force');
    const outcome = await load.exited;
    assert.notEqual(outcome.status, 0, `fio sees that its device is gone: ${describe(outcome)}`);
  });

  claimToo(
    `${kind}: with --on-crash fail, kill -9 of the server process fails I/O, and list tells`,
    async (scope) => {
      const device = await connect(scope, await targetOf(scope, kind), '--on-crash', 'fail');
      const load = await startLoad(scope, device.path, device.node);
      process.kill((await listed(device.path)).serverPid, 'SIGKILL');
      const outcome = await load.exited;
      assert.notEqual(outcome.status, 0, `fio ends with an error: ${describe(outcome)}`);
      await until('list tells', async () => (await listed(device.path)).state === 'DEAD');
      assert.match((await listed(device.path)).reason ?? '', /SIGKILL|killed|ended/);
      await ublkNbdMust('disconnect', device.path);
      assert.deepEqual(await list(), []);
      await assertNothingLeft();
      const again = await connect(scope, await targetOf(scope, kind));
      await again.disconnect();
    },
  );
}

claim('queue threads neither wait for their own disk nor write back for others', async (scope) => {
  const device = await connect(scope, 'memory:16M');
  const { serverPid } = await listed(device.path);
  // include/linux/sched.h: PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE, what PR_SET_IO_FLUSHER sets.
  const wanted = 0x0008_0000 | 0x0010_0000;
  for (const thread of readdirSync(`/proc/${serverPid}/task`)) {
    const stat = readFileSync(`/proc/${serverPid}/task/${thread}/stat`, 'utf8');
    const flags = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[6]);
    assert.equal(flags & wanted, wanted, `thread ${stat}`);
  }
  await device.disconnect();
});

claimToo(
  'without a wait, I/O is EIO when the backend dies, list and logs say so, its end is clean',
  async (scope) => {
    const backend = await startNbdkit(scope, ['memory', '16M']);
    const device = await connect(scope, backend.target, '--reconnect-delay', '0');
    const file = new DirectFile(device.path);
    scope.defer(() => file.close());
    file.write(0, Buffer.alloc(4096, 'x'));
    process.kill(backend.pid, 'SIGKILL');
    assert.equal(
      errorOf(() => file.read(0, 4096)),
      'EIO',
    );
    file.close();
    await until('list tells', async () => (await listed(device.path)).state !== 'CONNECTED');
    const { state, reason } = await listed(device.path);
    assert.match(`${state} ${reason}`, /^(FAILING|FATAL) .*backend/);
    assert.match(await ublkNbdMust('logs', device.path), /backend/);
    const outcome = await ublkNbd(['disconnect', device.path, '--drain-timeout', '2']);
    assertRefused(outcome, 'UNBD_DATA_LOST', 13, /1 write \(4096 bytes\).*may be lost/);
    assert(!existsSync(`/dev/ublkc${device.id}`));
  },
);
