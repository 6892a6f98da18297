/**
 * Claim: a new controller takes over devices that are served, shows as DEAD those that are not, and
 * undoes what was half done; it leaves alone what belongs to a living process or to a stranger.
 * Method: adoptOrphans over a host without a kernel, with records of owners that live and died.
 */
import { spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { adoptOrphans } from '../../src/gateway/adopt.ts';
import { identify, type ProcessIdentity } from '../../src/gateway/process.ts';
import type { DeviceRecord } from '../../src/gateway/registry.ts';
import { backend, type FakeHost, fakeHost, optionsFor } from '../support/fake-host.ts';

/** UBLK_F_USER_RECOVERY and UBLK_F_USER_RECOVERY_REISSUE. */
const USER_RECOVERY_AND_REISSUE = 0x18n;

/** No process has this start time. */
const DEAD: ProcessIdentity = { pid: process.pid, startTicks: '0' };

function recordOf(id: number, more: Partial<DeviceRecord>): DeviceRecord {
  return {
    version: 1,
    id,
    token: `token ${id}`,
    phase: 'live',
    options: optionsFor({ name: `name${id}` }),
    owner: { ...DEAD, foreground: false },
    connectedAtMs: 1,
    shape: {
      queues: 1,
      depth: 64,
      maxIoBytes: 65_536,
      sizeBytes: 1n << 20n,
      readOnly: false,
      logicalBlockBytes: 512,
    },
    madeNodes: [],
    ...more,
  };
}

/** A process that lives as long as the test. */
function living(t: Test): ProcessIdentity {
  const child = spawn('sleep', ['600']);
  t.teardown(() => child.kill('SIGKILL'));
  const identity = identify(child.pid ?? 0);
  if (identity === undefined) throw new Error('sleep does not run');
  return identity;
}

function hostWith(t: Test, records: readonly DeviceRecord[], driver: readonly number[]): FakeHost {
  const host = fakeHost(t.testdir());
  for (const record of records) host.registry.claim(record);
  for (const id of driver) host.driver.add(id);
  return host;
}

const summary = (host: FakeHost) =>
  host.registry.readAll().records.map(({ id, phase, owner }) => [id, phase, owner.pid]);

t.test('a device that is served goes on under the new owner', async (t) => {
  const host = hostWith(t, [recordOf(3, { serverProcess: living(t) })], [3]);
  await adoptOrphans(host);
  t.equal(host.devices.get(3)?.state, 'CONNECTED');
  t.same(summary(host), [[3, 'live', process.pid]]);
  t.same(host.calls, ['info 3']);
});

t.test('a device without a server process, or without its disk, is DEAD', async (t) => {
  const records = [recordOf(0, { serverProcess: DEAD }), recordOf(1, { serverProcess: living(t) })];
  const host = hostWith(t, records, [0]);
  await adoptOrphans(host);
  t.match(await host.devices.get(0)?.view(false), {
    state: 'DEAD',
    reason: /server process ended/,
  });
  t.match(await host.devices.get(1)?.view(false), { state: 'DEAD', reason: /was deleted/ });
  t.same([...host.driver], [], 'the driver has it no more');
  t.same(
    summary(host).map(([, phase]) => phase),
    ['dead', 'dead'],
  );
});

t.test('what was half connected or half disconnected is taken away', async (t) => {
  const records = [recordOf(0, { phase: 'adding' }), recordOf(1, { phase: 'stopping' })];
  const host = hostWith(t, records, [0]);
  await adoptOrphans(host);
  t.same([...host.driver], []);
  t.same(summary(host), []);
  t.equal(host.devices.size, 0);
});

t.test('a device whose disk was still being drained goes on', async (t) => {
  const host = hostWith(t, [recordOf(0, { phase: 'stopping', serverProcess: living(t) })], [0]);
  await adoptOrphans(host);
  t.equal(host.devices.get(0)?.state, 'CONNECTED');
  t.same(summary(host), [[0, 'live', process.pid]]);
});

t.test("a stranger's device under the id of an intent is left alone", async (t) => {
  const { shape: _, ...intent } = recordOf(4, { phase: 'adding' });
  const host = hostWith(t, [intent], [4]);
  await adoptOrphans(host);
  t.same([...host.driver], [4]);
  t.same(summary(host), []);
});

t.test('a device of a living owner is left alone', async (t) => {
  const owner = { ...living(t), foreground: true };
  const host = hostWith(t, [recordOf(0, { owner })], [0]);
  await adoptOrphans(host);
  t.same(summary(host), [[0, 'live', owner.pid]]);
  t.equal(host.devices.size, 0);
  t.same(host.calls, []);
});

t.test('a DEAD device stays DEAD with its reason', async (t) => {
  const host = hostWith(t, [recordOf(0, { phase: 'dead', reason: 'it was killed' })], []);
  await adoptOrphans(host);
  t.match(await host.devices.get(0)?.view(false), { state: 'DEAD', reason: 'it was killed' });
});

t.test('a death that is noticed twice is recovered once', async (t) => {
  const base = recordOf(3, { serverProcess: DEAD, backend });
  const { shape } = base;
  if (shape === undefined) throw new Error('it was added');
  const record = { ...base, shape: { ...shape, flags: USER_RECOVERY_AND_REISSUE } };
  const host = hostWith(t, [record], [3]);
  const { info } = host.control;
  // Slow, so that the watch of the process comes first.
  host.control.info = async (id) => {
    await delay(600);
    return info(id);
  };
  await adoptOrphans(host);
  const isReissued = () => host.events.some((event) => event.startsWith('reissued'));
  for (let n = 0; n < 500 && !isReissued(); n += 1) await delay(10);
  await delay(100);
  t.equal(host.calls.filter((call) => call === 'recover_start 3').length, 1);
  t.equal(host.devices.get(3)?.state, 'CONNECTED');
});
