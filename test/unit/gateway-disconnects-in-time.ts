/**
 * Claim: a disconnect waits for a backend that is away as long as it was told to, then the device
 * is gone and what was lost is said; until then an interruption takes it back.
 * Method: connectDevice over a host without a kernel, whose flush waits for the test.
 */
import t, { type Test } from 'tap';
import type { FlushResult } from '../../src/gateway/control.ts';
import type { Device } from '../../src/gateway/device.ts';
import { endDevice } from '../../src/gateway/disconnect.ts';
import { connectedDevice, type FakeHost, type Faults } from '../support/fake-host.ts';

const AT_ONCE = { force: false, drainTimeoutMs: 0 };

interface Setup {
  readonly host: FakeHost;
  readonly device: Device;
  /** Ends the flush that waits. */
  flushed(result: FlushResult): void;
}

/** `unflushed`: how many writes the server process says that the backend never flushed. */
async function connected(t: Test, unflushed?: number, faults: Faults = {}): Promise<Setup> {
  const { host, device } = await connectedDevice(t.testdir(), faults);
  const { peer } = device;
  if (peer === undefined) throw new Error('there is no peer');
  const request = peer.request.bind(peer);
  peer.request = async (name, argument, options) => {
    if (name !== 'unflushed' || unflushed === undefined) return request(name, argument, options);
    return { writes: unflushed, bytes: BigInt(unflushed * 4096) };
  };
  const waiting: { end: (result: FlushResult) => void } = { end: () => undefined };
  host.control.disconnect = (id) => {
    host.calls.push(`disconnect ${id}`);
    return new Promise((resolve) => {
      waiting.end = resolve;
    });
  };
  return { host, device, flushed: (result) => waiting.end(result) };
}

async function untilCalled(host: FakeHost, call: string, times = 1): Promise<void> {
  while (host.calls.filter((one) => one === call).length < times) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const isGone = (host: FakeHost) =>
  host.driver.size === 0 && host.devices.size === 0 && host.registry.readAll().records.length === 0;

t.test('time is over: fail all, STOP, DEL, and what was lost', async (t) => {
  const { host, device } = await connected(t, 3);
  await t.rejects(endDevice(host, device, AT_ONCE), {
    code: 'UNBD_DATA_LOST',
    message: /^\/dev\/ublkb0 was removed .*: 3 writes \(12288 bytes\) .* may be lost$/,
  });
  t.ok(isGone(host));
  t.ok(host.calls.indexOf('stop 0') > host.calls.indexOf('disconnect 0'));
});

t.test('with nothing unwritten it is a success', async (t) => {
  const { host, device } = await connected(t, 0);
  await endDevice(host, device, AT_ONCE);
  t.ok(isGone(host));
});

t.test('where nobody knows what was unwritten that is said', async (t) => {
  const { host, device } = await connected(t);
  await t.rejects(endDevice(host, device, AT_ONCE), { message: /may be lost, if there were any/ });
  t.ok(isGone(host));
});

t.test('pages that could not be written are lost, even where the rest was flushed', async (t) => {
  const { host, device, flushed } = await connected(t, 1);
  device.backendTold({ state: 'FAILING', text: 'away' });
  const ending = endDevice(host, device, { force: false });
  await untilCalled(host, 'disconnect 0');
  flushed('unwritten');
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.equal(host.calls.filter((call) => call === 'disconnect 0').length, 1, 'it waits');
  device.backendTold({ state: 'CONNECTED', text: 'back' });
  await untilCalled(host, 'disconnect 0', 2);
  flushed('stopped');
  await t.rejects(ending, { message: /page cache could not write is lost$/ });
  t.ok(isGone(host));
});

t.test('interrupted, the device goes on', async (t) => {
  const { host, device } = await connected(t, 1);
  const interruption = new AbortController();
  const ending = endDevice(host, device, { force: false, signal: interruption.signal });
  await untilCalled(host, 'disconnect 0');
  t.equal(device.state, 'STOPPING');
  device.backendTold({ state: 'HOLDING', text: 'the backend is away' });
  interruption.abort();
  await t.rejects(ending, { code: 'UNBD_INTERRUPTED', message: /ublkb0 goes on/ });
  t.match(await device.view(false), { state: 'HOLDING', reason: 'the backend is away' });
  t.match(host.registry.readAll().records[0], { phase: 'live' });
  t.notOk(host.calls.includes('stop 0'));
  t.notOk(device.ending.aborted, 'it may be recovered');
});

t.test('a recovery that does not end is bounded by the drain', async (t) => {
  const { host, device } = await connected(t, 1, { hanging: 'recover_start 0' });
  host.endServerProcess('was killed by SIGKILL');
  await untilCalled(host, 'recover_start 0');
  t.equal(device.state, 'RECOVERING');
  await t.rejects(endDevice(host, device, AT_ONCE), { code: 'UNBD_DATA_LOST' });
  t.ok(isGone(host));
});

t.test('a disk in use is refused at once in a recovery, which goes on', async (t) => {
  const { host, device } = await connected(t, 1, { hanging: 'recover_start 0' });
  host.nodes.findHolders = () => ({ users: 'mounted at /mnt', hasHelper: false });
  host.endServerProcess('was killed by SIGKILL');
  await untilCalled(host, 'recover_start 0');
  await t.rejects(endDevice(host, device, AT_ONCE), { code: 'UNBD_DEVICE_BUSY' });
  t.notOk(device.ending.aborted);
  await endDevice(host, device, { force: true, drainTimeoutMs: 0 });
  t.ok(isGone(host));
});
