/**
 * Claim: a device is handed over to a server process that has passed its self-test, and to no
 * other; where that cannot be done without an error for somebody, nothing is touched.
 * Method: upgradeDevice over a host without a kernel.
 */
import t, { type Test } from 'tap';
import type { Device } from '../../src/gateway/device.ts';
import type { ConnectOptions } from '../../src/gateway/messages.ts';
import { upgradeDevice } from '../../src/gateway/upgrade.ts';
import { GatewayError } from '../../src/protocols/errors.ts';
import { connectedDevice, type FakeHost, type Faults, VERSION } from '../support/fake-host.ts';

const TEST = ['launch', 'arrival', 'peer ping', 'peer selfTest'];
const HAND_OVER = [
  'peer quiesce',
  'kill',
  'peer open',
  'recover_start 0',
  'peer start',
  'recover_end 0',
];

interface Setup {
  readonly host: FakeHost;
  readonly device: Device;
  upgrade(version?: string): ReturnType<typeof upgradeDevice>;
}

async function connected(
  t: Test,
  faults: Faults = {},
  options: Partial<ConnectOptions> = {},
): Promise<Setup> {
  const { host, device } = await connectedDevice(t.testdir(), faults, options);
  const upgrade = (version = VERSION) =>
    device.exclusive(() => upgradeDevice(host, device, version));
  return { host, device, upgrade };
}

/** After the question to the old server process. */
const done = (host: FakeHost) => host.calls.slice(1);

t.test('the new one is tested before the old one ends, and is the successor', async (t) => {
  const { host, device, upgrade } = await connected(t);
  let refreshed = 0;
  Object.assign(host, { spares: { ...host.spares, refresh: () => (refreshed += 1) } });
  const old = device.serverProcess;
  const { before, after, text } = await upgrade();
  t.same(host.calls[0], 'peer ping', 'the old one is asked how it is');
  t.same(done(host), [...TEST, ...HAND_OVER], 'one launch');
  t.not(device.serverProcess, old);
  t.equal(await old?.waitForExit(0), true);
  t.match([before.state, after.state], ['CONNECTED', 'CONNECTED']);
  t.equal(after.serverVersion, VERSION);
  t.match(text, /^process \d+ \(1\.2\.3\) -> process \d+ \(1\.2\.3\), paused \d+ ms$/);
  t.same(
    host.events.map((line) => line.split(' ')[0]),
    ['recovering', 'reissued', 'upgraded'],
  );
  t.equal(refreshed, 1, 'an older spare is not kept');
  await device.exclusive(async () => undefined);
  t.equal(device.state, 'CONNECTED', 'the end of the old one is no loss');
});

t.test('more upgrades than crashes are allowed end in nothing bad', async (t) => {
  const { device, upgrade } = await connected(t);
  for (let times = 0; times < 7; times += 1) await upgrade();
  t.equal(device.state, 'CONNECTED');
  t.same(device.record.crashesAtMs ?? [], []);
});

t.test('one that fails before it is needed changes nothing', async (t) => {
  for (const failing of ['arrival', 'peer selfTest']) {
    const faults: { failing?: string } = {};
    const { host, device, upgrade } = await connected(t, faults);
    const old = device.serverProcess;
    faults.failing = failing;
    await t.rejects(upgrade(), {
      code: 'UNBD_CONTROL_FAILED',
      message: /version 1\.2\.3 cannot take over, and nothing was changed: .* failed/,
    });
    t.equal(device.serverProcess, old, failing);
    t.equal(await old?.waitForExit(0), false, 'the old one lives');
    t.ok(host.calls.includes('kill'), 'the new one does not');
    t.notOk(host.calls.includes('recover_start 0'));
    t.equal(device.state, 'CONNECTED');
    t.same(host.events, []);
  }
});

t.test('one that does not get quiet goes on, and is not ended', async (t) => {
  const { host, device, upgrade } = await connected(t, { failing: 'peer quiesce' });
  const old = device.serverProcess;
  await t.rejects(upgrade(), { code: 'UNBD_BACKEND_TIMEOUT', message: /nothing was changed/ });
  t.same(done(host), [...TEST, 'peer quiesce', 'peer unquiesce', 'kill']);
  t.equal(await old?.waitForExit(0), false);
});

t.test('an older one that cannot be quiesced is handed over as after a crash', async (t) => {
  const { device, upgrade } = await connected(t);
  const { peer } = device;
  if (peer === undefined) throw new Error('there is no peer');
  const request = peer.request.bind(peer);
  peer.request = async (name, argument) => {
    if (name !== 'quiesce') return request(name, argument);
    throw new GatewayError('UNBD_VERSION', "unknown request 'quiesce'");
  };
  t.match(await upgrade(), { after: { state: 'CONNECTED' } });
});

t.test('one of another version than the controller is not taken', async (t) => {
  const { host, upgrade } = await connected(t);
  await t.rejects(upgrade('1.2.4'), { code: 'UNBD_VERSION', message: /version 1\.2\.3 now/ });
  t.same(done(host), ['launch', 'arrival', 'kill']);
});

t.test('without REISSUE the hand-over would fail requests: refused with the reason', async (t) => {
  const memory = { kind: 'memory', sizeBytes: 1n << 20n, text: 'memory:1M' } as const;
  const reasons: readonly [Partial<ConnectOptions>, RegExp][] = [
    [{ target: memory }, /memory: is lost/],
    [{ onCrash: 'fail' }, /--on-crash fail/],
    [{ resendWrites: false }, /--resend-writes no/],
  ];
  for (const [options, message] of reasons) {
    const { host, upgrade } = await connected(t, {}, options);
    await t.rejects(upgrade(), { code: 'UNBD_USAGE', message });
    t.same(done(host), []);
  }
});

t.test('while its backend is away, or it is FATAL, it is refused', async (t) => {
  for (const [state, code] of [
    ['HOLDING', 'UNBD_BACKEND_UNREACHABLE'],
    ['FAILING', 'UNBD_BACKEND_UNREACHABLE'],
    ['FATAL', 'UNBD_SERVER_PROCESS'],
  ] as const) {
    const { host, device, upgrade } = await connected(t);
    device.backendTold({ state, text: 'it is gone' });
    await t.rejects(upgrade(), { code, message: new RegExp(`${state}: it is gone`) });
    t.same(done(host), []);
  }
});

t.test('a backend that goes while the new one is tested ends the upgrade', async (t) => {
  const held: { device?: Device } = {};
  const onCall = (call: string): void => {
    if (call === 'peer selfTest') held.device?.backendTold({ state: 'HOLDING', text: 'gone' });
  };
  const { host, device, upgrade } = await connected(t, { onCall });
  held.device = device;
  const old = device.serverProcess;
  await t.rejects(upgrade(), { code: 'UNBD_BACKEND_UNREACHABLE' });
  t.same(done(host), [...TEST, 'kill']);
  t.equal(device.serverProcess, old);
});

t.test('two at once come one after the other', async (t) => {
  const { host, upgrade } = await connected(t);
  await Promise.all([upgrade(), upgrade()]);
  const once = ['peer ping', ...TEST, ...HAND_OVER];
  t.same(host.calls, [...once, ...once]);
});

t.test('a device that is gone meanwhile is told so', async (t) => {
  const { host, upgrade } = await connected(t);
  host.devices.clear();
  await t.rejects(upgrade(), { code: 'UNBD_DEVICE_ABSENT' });
});
