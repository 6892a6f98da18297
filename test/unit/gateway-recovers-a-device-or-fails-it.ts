/**
 * Claim: a device whose server process dies gets a successor, in the driver's order; where there is
 * none it answers with errors or is taken away, so that nobody waits; crashes in a row end it.
 * Method: connectDevice over a host without a kernel, then ends of its server processes.
 */
import t, { type Test } from 'tap';
import { connectDevice } from '../../src/gateway/connect.ts';
import type { Device } from '../../src/gateway/device.ts';
import { endDevice } from '../../src/gateway/disconnect.ts';
import { Heartbeat } from '../../src/gateway/heartbeat.ts';
import type { ConnectOptions } from '../../src/gateway/messages.ts';
import {
  backend,
  connectedDevice,
  type FakeHost,
  type Faults,
  fakeHost,
  optionsFor,
} from '../support/fake-host.ts';

/** Everything but QUIESCE: what Linux 6.12 offers. */
const OLD_FEATURES = 0x1fen;

const RECOVERY = [
  'launch',
  'arrival',
  'peer open',
  'recover_start 0',
  'peer start',
  'recover_end 0',
];

const connected = (t: Test, faults?: Faults, options?: Partial<ConnectOptions>) =>
  connectedDevice(t.testdir(), faults, options);

async function untilSettled(device: Device): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) {
    await new Promise(setImmediate);
    await device.exclusive(async () => undefined);
  }
}

const kinds = (host: FakeHost) => host.events.map((line) => line.split(' ')[0]);

t.test('a successor is ready before the driver lets go, and then serves', async (t) => {
  const { host, device } = await connected(t);
  host.endServerProcess('was killed by SIGKILL');
  await untilSettled(device);
  t.same(host.calls, RECOVERY);
  t.equal(device.state, 'CONNECTED');
  t.same(kinds(host), ['recovering', 'reissued']);
  t.match(host.registry.readAll().records[0], { phase: 'live', recovery: 'none' });
});

t.test('it is recovered whatever its backend is at, and looked after', async (t) => {
  for (const state of ['HOLDING', 'FAILING'] as const) {
    const { host, device } = await connected(t);
    device.backendTold({ state, text: 'the backend is away' });
    t.equal(device.state, state);
    const heartbeat = new Heartbeat(host);
    heartbeat.beat();
    t.same(host.calls, ['peer ping'], 'its heart is listened to');
    host.endServerProcess('was killed by SIGKILL');
    await untilSettled(device);
    t.ok(host.calls.includes('recover_end 0'), 'a successor took over');
    t.equal(device.state, 'CONNECTED');
  }
});

t.test('a lost backend is told with what was in flight, then what that makes of it', async (t) => {
  const { host, device } = await connected(t);
  device.backendTold({ state: 'HOLDING', text: 'it closed', lost: { requests: 3 } });
  device.backendTold({ state: 'FAILING', text: 'the time is over' });
  t.same(host.events.slice(-3), [
    'lost 0: it closed; 3 requests in flight',
    'holding 0: it closed',
    'failing 0: the time is over',
  ]);
});

t.test('a device without the flag, and one of memory, is DEAD', async (t) => {
  const memory = { kind: 'memory', sizeBytes: 1n << 20n, text: 'memory:1M' } as const;
  for (const options of [{ onCrash: 'fail' }, { target: memory }] as const) {
    const { host, device } = await connected(t, {}, options);
    host.endServerProcess('was killed by SIGKILL');
    await untilSettled(device);
    t.equal(device.state, 'DEAD');
    t.equal(host.calls[0], 'del_async 0');
    t.notOk(host.calls.includes('launch'));
  }
});

t.test('the fifth crash within a minute is FATAL; a SIGKILL is no crash', async (t) => {
  const { host, device } = await connected(t);
  for (let kill = 0; kill < 8; kill += 1) {
    host.endServerProcess('was killed by SIGKILL');
    await untilSettled(device);
    t.equal(device.state, 'CONNECTED');
  }
  for (let crash = 1; crash <= 5; crash += 1) {
    t.equal(device.state, 'CONNECTED', `before crash ${crash}`);
    host.endServerProcess('was killed by SIGABRT');
    await untilSettled(device);
  }
  t.match(await device.view(false), { state: 'FATAL', reason: /again and again: .*SIGABRT/ });
  t.equal(host.registry.readAll().records[0]?.phase, 'fatal');
});

t.test(
  'another image behind the name is FATAL at once, and its bytes are not served',
  async (t) => {
    for (const change of [{ sizeBytes: 4096n }, { readOnly: true }, { canFlush: false }]) {
      let offered = backend;
      const { host, device } = await connected(t, { backend: () => offered });
      offered = { ...backend, ...change };
      host.endServerProcess('was killed by SIGKILL');
      await untilSettled(device);
      t.match(await device.view(false), { state: 'FATAL', reason: /another image/ });
      const taken = host.calls.indexOf('recover_start 0');
      t.ok(host.calls.indexOf('peer shutdown') < taken, 'only the one with errors takes over');
    }
  },
);

t.test('an error server that cannot take over is followed by the end of the device', async (t) => {
  let offered = backend;
  const faults = { failing: 'recover_start 0', backend: () => offered };
  const { host, device } = await connected(t, faults);
  offered = { ...backend, sizeBytes: 4096n };
  host.endServerProcess('was killed by SIGKILL');
  await untilSettled(device);
  t.match(await device.view(false), { state: 'DEAD', reason: /another image/ });
  t.same([...host.driver], []);
});

t.test('a kernel that does not bear a second START gets none', async (t) => {
  const faults: { features: bigint; failing?: string } = { features: OLD_FEATURES };
  const { host, device } = await connected(t, faults);
  device.update({ recovery: 'started' });
  host.endServerProcess('was killed by SIGKILL');
  await untilSettled(device);
  t.same(
    host.calls,
    RECOVERY.filter((call) => call !== 'recover_start 0'),
  );
  t.equal(device.state, 'CONNECTED');
  device.update({ recovery: 'fetching' });
  host.calls.length = 0;
  host.endServerProcess('was killed by SIGKILL');
  await untilSettled(device);
  t.equal(device.state, 'DEAD', 'tags that were fetched cannot be fetched again there');
  t.notOk(host.calls.includes('recover_start 0'));
  t.notOk(host.calls.includes('peer start'));
});

t.test('a kernel that notices a death late gets a short timeout', async (t) => {
  const calls: string[] = [];
  await connected(t, { features: OLD_FEATURES, onCall: (call) => calls.push(call) });
  t.ok(calls.indexOf('tune 0 short') > calls.indexOf('start 0'));
});

t.test('a death during disconnect is recovered, so that the flush is', async (t) => {
  let state = 'LIVE';
  let flushed: () => void = () => undefined;
  const host = fakeHost(t.testdir(), { state: () => state });
  const signal = new AbortController().signal;
  const device = await connectDevice(host, optionsFor(), { signal, progress: () => undefined });
  host.control.disconnect = () =>
    new Promise((resolve) => {
      flushed = () => resolve('stopped');
    });
  host.control.recoverEnd = async () => flushed();
  const disconnecting = endDevice(host, device, { force: false });
  for (let turn = 0; turn < 3; turn += 1) await new Promise(setImmediate);
  state = 'QUIESCED';
  host.endServerProcess('was killed by SIGKILL');
  await disconnecting;
  t.ok(host.calls.includes('recover_start 0'));
  t.equal(host.devices.size, 0);
  t.same([...host.driver], []);
});

t.test('a server process that answers no more is killed, and recovered', async (t) => {
  const { host, device } = await connected(t);
  const heartbeat = new Heartbeat(host);
  const beat = async () => {
    heartbeat.beat();
    await new Promise(setImmediate);
  };
  for (let beats = 0; beats < 10; beats += 1) await beat();
  t.notOk(host.calls.includes('kill'), 'one that answers lives');
  const { peer } = device;
  if (peer === undefined) throw new Error('there is no peer');
  peer.request = () => new Promise(() => undefined);
  for (let beats = 0; beats < 4; beats += 1) await beat();
  t.notOk(host.calls.includes('kill'), 'it has its time');
  await beat();
  t.ok(host.calls.includes('kill'));
});
