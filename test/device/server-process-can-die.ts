/**
 * Claim: a device outlives its server process: whoever reads or writes sees a pause and no error,
 * whatever kills it, and one that dies again and again ends in EIO, never in a hang.
 * Method: kill -9, SIGSTOP and SIGABRT under fio with its checksums, during a disconnect; the
 * controller killed with it. ublksrv's generic/004 to 006.
 */
import assert from 'node:assert/strict';
import { constants } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { isBrief, isFull } from '../support/amount.ts';
import { BackendProxy } from '../support/backend-proxy.ts';
import { startNbdkit } from '../support/backends.ts';
import { claim, claimToo, tellFigure } from '../support/claim.ts';
import { DirectFile, errorOf } from '../support/direct-file.ts';
import { fioWords } from '../support/fio.ts';
import {
  killIfAlive,
  killServerProcess,
  PATIENTLY,
  serverPid,
  untilServedByAnother,
} from '../support/kills.ts';
import { controllerPid, sparePid } from '../support/leftovers.ts';
import { must, start, until } from '../support/process.ts';
import { connect, listed, startUblkNbd, ublkNbd, ublkNbdMust } from '../support/product.ts';
import type { Scope } from '../support/scope.ts';
import { SlowNbdkit } from '../support/slow-nbdkit.ts';
import { inFlight, verifyThrough } from '../support/under-load.ts';

const KILLS = isFull ? 100 : isBrief ? 2 : 30;
const KILLS_WITHOUT_SPARE = isFull ? 20 : isBrief ? 1 : 6;

/** A backend that takes its time, so that requests are in flight at every moment. */
function slowBackend(scope: Scope): Promise<SlowNbdkit> {
  return SlowNbdkit.start(scope, 64);
}

const SPARE_LIMIT_MS = 180_000;

async function untilThereIsASpare(): Promise<number> {
  let pid: number | undefined;
  const isThere = (): boolean => {
    pid = sparePid();
    return pid !== undefined;
  };
  // After one that died the next is tried half a minute later.
  await until('there is a spare', isThere, SPARE_LIMIT_MS);
  return pid ?? 0;
}

claim(
  `fio verifies while the server process is killed -9 ${KILLS} times`,
  async (scope) => {
    const backend = await slowBackend(scope);
    const device = await connect(scope, backend.target);
    let pid = await serverPid(device);
    for (const [spare, count] of [
      ['with a spare', KILLS - KILLS_WITHOUT_SPARE],
      ['without a spare', KILLS_WITHOUT_SPARE],
    ] as const) {
      let prepared = await untilThereIsASpare();
      const fail = async (): Promise<void> => {
        const mark = await backend.standStill();
        if (spare === 'without a spare') process.kill(prepared, 'SIGKILL');
        process.kill(pid, 'SIGKILL');
        backend.goOn();
        pid = await untilServedByAnother(device, pid);
        prepared = await untilThereIsASpare();
        await backend.untilSentAgain(mark);
        await delay(Math.random() * 1000);
      };
      const options = { isAtWork: backend.isAtWork, latencyLog: scope.path('latencies') };
      const gapsMs = await verifyThrough(device, count, fail, options);
      const middle = gapsMs[Math.floor(gapsMs.length / 2)];
      tellFigure(`pauses ${spare}: ${count} kills, median ${middle} ms, longest ${gapsMs[0]} ms`);
    }
    await device.disconnect();
  },
  { timeoutMs: 7_200_000 },
);

claim(
  'the controller and the server process die together: the next command recovers',
  async (scope) => {
    const backend = await slowBackend(scope);
    const device = await connect(scope, backend.target);
    const file = new DirectFile(device.path);
    scope.defer(() => file.close());
    const block = Buffer.alloc(4096, 'kept');
    file.write(8192, block);
    const pid = await serverPid(device);
    const controller = controllerPid();
    assert(controller !== undefined);
    const options = { rw: 'randread', bs: '4k', number_ios: 1000, iodepth: 16 };
    // Else they may be answered before the kill comes.
    await backend.pause();
    const load = start(scope, fioWords({ path: device.path, options }));
    await until('16 requests are in flight', () => inFlight(device).reads >= 16);
    process.kill(controller, 'SIGKILL');
    process.kill(pid, 'SIGKILL');
    backend.goOn();
    const ended = await Promise.race([load.exited, delay(2000, 'I/O waits')]);
    assert.equal(ended, 'I/O waits');
    await untilServedByAnother(device, pid);
    assert.equal((await load.exited).status, 0, 'and is done');
    assert(file.read(8192, 4096).equals(block));
    file.close();
    await device.disconnect();
  },
);

claimToo('events tells of a death and of the successor', async (scope) => {
  const device = await connect(scope, 'null:16M');
  const events = startUblkNbd(scope, ['events', '--json']);
  const kinds = (): string[] => {
    const whole = events.stdout().split('\n').slice(0, -1);
    return whole.map((line) => (JSON.parse(line) as { kind: string }).kind);
  };
  // It has no sign of its own that it listens: the first event that is seen is one.
  await until('events are told', async () => {
    await killServerProcess(device);
    return kinds().length > 0;
  });
  // Those of the last kill may be on their way, or be cut in half by the begin of the listening.
  await killServerProcess(device);
  const isPair = (): boolean => kinds().slice(-2).join() === 'recovering,reissued';
  await until('the last ones are told', isPair).catch(() => undefined);
  assert.deepEqual(kinds().slice(-2), ['recovering', 'reissued']);
  assert.equal((await events.stop()).status, 0);
  await device.disconnect();
});

claimToo('a server process that stands still is killed and recovered', async (scope) => {
  const device = await connect(scope, (await slowBackend(scope)).target);
  const pid = await serverPid(device);
  process.kill(pid, 'SIGSTOP');
  await untilServedByAnother(device, pid);
  const file = new DirectFile(device.path, constants.O_RDONLY);
  file.read(0, 4096);
  file.close();
  assert.match(await ublkNbdMust('logs', device.path), /did not answer for 10 s/);
  await device.disconnect();
});

claimToo(
  'five crashes in a row are FATAL: EIO at once, until it is recovered by hand',
  async (scope) => {
    const device = await connect(scope, (await slowBackend(scope)).target);
    for (let crash = 1; crash < 5; crash += 1) await killServerProcess(device, 'SIGABRT');
    let pid = await serverPid(device);
    process.kill(pid, 'SIGABRT');
    const file = new DirectFile(device.path);
    scope.defer(() => file.close());
    // In a row is within a minute: a machine that stood still meanwhile needs one more, or some.
    await until('it is FATAL', async () => {
      const { state, serverPid: now } = await listed(device.path);
      if (state === 'CONNECTED' && now !== pid) {
        pid = now;
        killIfAlive(pid, 'SIGABRT');
      }
      return state === 'FATAL';
    });
    assert.match((await listed(device.path)).reason ?? '', /again and again/);
    assert.equal(
      errorOf(() => file.read(0, 4096)),
      'EIO',
    );
    await ublkNbdMust('recover', device.path);
    file.read(0, 4096);
    await until('it is well', async () => (await listed(device.path)).state === 'CONNECTED');
    file.close();
    await device.disconnect();
  },
);

claimToo(
  'it dies during a disconnect: what was written reaches the backend first',
  async (scope) => {
    const proxy = await BackendProxy.start(
      scope,
      (await startNbdkit(scope, ['memory', '16M'])).target,
    );
    const device = await connect(scope, proxy.target, ...PATIENTLY);
    await must(['dd', 'if=/dev/urandom', `of=${device.path}`, 'bs=1M', 'count=8', 'status=none']);
    const pid = await serverPid(device);
    // So that its flush waits; only what comes over another connection is read again.
    proxy.leaveUnread();
    const words = ['disconnect', device.path, '--drain-timeout', '120'];
    const disconnecting = ublkNbd(words, { env: {} });
    await until('it drains', async () => (await listed(device.path)).state === 'STOPPING');
    const hasRequests = (): boolean => Object.values(inFlight(device)).some((count) => count > 0);
    // The disk does not count every flush.
    await until('its flush is under way', hasRequests, 2000).catch(() => undefined);
    process.kill(pid, 'SIGKILL');
    const outcome = await disconnecting;
    assert.equal(outcome.status, 0, outcome.stderr);
  },
);
