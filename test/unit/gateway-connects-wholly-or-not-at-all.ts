/**
 * Claim: a connect that fails or is interrupted at any step takes back every step before it, last
 * first, and leaves no device, record, node, link or server process. Method: connectDevice over a
 * host without a kernel that fails, hangs or aborts at each call in turn.
 */
import t from 'tap';
import { connectDevice } from '../../src/gateway/connect.ts';
import { endDevice } from '../../src/gateway/disconnect.ts';
import { type FakeHost, fakeHost, optionsFor } from '../support/fake-host.ts';

const context = () => {
  const abort = new AbortController();
  return { abort, signal: abort.signal, progress: () => undefined };
};

const options = optionsFor({ name: 'disk' });

const CONNECT_CALLS = [
  'features',
  'launch',
  'arrival',
  'peer open',
  'add 0',
  'char 0',
  'peer start',
  'start 0',
  'tune 0',
  'block 0',
  'link disk',
  'prove 0',
];

/** As of Linux 6.12, which cannot leave the partition scan out of START. */
const OLD_FEATURES = 0x1fen;

function nothingLeft(host: FakeHost): object {
  const { records, corrupt } = host.registry.readAll();
  return {
    records: records.length + corrupt.length,
    devices: host.devices.size,
    driver: [...host.driver],
  };
}

const NOTHING = { records: 0, devices: 0, driver: [] };

t.test('the steps come in their order, and the record says live only at the end', async (t) => {
  const phases: string[] = [];
  const host = fakeHost(t.testdir(), {
    onCall: () => phases.push(host.registry.readAll().records[0]?.phase ?? 'none'),
  });
  const device = await connectDevice(host, options, context());
  t.same(host.calls, CONNECT_CALLS);
  t.same(new Set(phases), new Set(['adding']), 'intent is recorded before the first call');
  t.equal(device.state, 'CONNECTED');
  const [record] = host.registry.readAll().records;
  t.match(record, {
    phase: 'live',
    madeNodes: ['/dev/ublkc0', '/dev/ublkb0'],
    shape: { queues: 2, depth: 64, sizeBytes: 1n << 20n },
  });
});

t.test('an older kernel is told its partitions once the disk is there', async (t) => {
  const features = OLD_FEATURES;
  const scanned = fakeHost(t.testdir(), { features });
  await connectDevice(scanned, optionsFor(), context());
  const since = scanned.calls.indexOf('block 0');
  t.same(scanned.calls.slice(since, since + 3), ['block 0', 'scan 0', 'block 0']);
  const plain = fakeHost(t.testdir(), { features });
  await connectDevice(plain, optionsFor({ partitionScan: false }), context());
  t.notOk(plain.calls.includes('scan 0'));
});

t.test('a server process that ends during that scan leaves nothing', async (t) => {
  const onCall = (call: string) => call === 'scan 0' && host.endServerProcess('was killed');
  const host = fakeHost(t.testdir(), { features: OLD_FEATURES, hanging: 'scan 0', onCall });
  await t.rejects(connectDevice(host, options, context()), { message: /was killed/ });
  t.same(nothingLeft(host), NOTHING);
});

t.test('a failure at each step leaves nothing', async (t) => {
  for (const failing of CONNECT_CALLS.filter((call) => call !== 'launch')) {
    const host = fakeHost(t.testdir(), { failing });
    await t.rejects(connectDevice(host, options, context()), {
      code: 'UNBD_CONTROL_FAILED',
      message: `${failing} failed`,
    });
    t.same(nothingLeft(host), NOTHING, failing);
    const launched = host.calls.includes('launch');
    const ended = host.calls.includes('peer shutdown') || host.calls.includes('kill');
    t.equal(ended, launched, `${failing}: the server process is ended`);
  }
});

t.test('an interruption at each step leaves nothing', async (t) => {
  for (const at of CONNECT_CALLS.filter((call) => call !== 'launch')) {
    const asked = context();
    const onCall = (call: string) => call === at && asked.abort.abort();
    const host = fakeHost(t.testdir(), { onCall });
    await t.rejects(connectDevice(host, options, asked), { code: 'UNBD_INTERRUPTED' }, at);
    t.same(nothingLeft(host), NOTHING, at);
  }
});

t.test('an interruption does not wait for a backend that hangs', async (t) => {
  for (const hanging of ['arrival', 'peer open', 'peer start']) {
    const asked = context();
    const onCall = (call: string) => call === hanging && setTimeout(() => asked.abort.abort(), 5);
    const host = fakeHost(t.testdir(), { hanging, onCall });
    await t.rejects(connectDevice(host, options, asked), { code: 'UNBD_INTERRUPTED' }, hanging);
    t.same(nothingLeft(host), NOTHING, hanging);
  }
});

t.test('what was done is undone last first: stop, end the server process, delete', async (t) => {
  const host = fakeHost(t.testdir(), { failing: 'prove 0' });
  await t.rejects(connectDevice(host, options, context()));
  t.same(host.calls.slice(CONNECT_CALLS.length), [
    'unlink disk',
    'peer failAll',
    'stop 0',
    'remove /dev/ublkc0 /dev/ublkb0',
    'peer shutdown',
    'del 0',
  ]);
});

t.test('an undo that fails does not stop the others', async (t) => {
  const host = fakeHost(t.testdir(), { failing: 'stop 0' });
  const failAtEnd = host.nodes.prove;
  host.nodes.prove = async (id) => {
    await failAtEnd(id);
    throw new Error('cannot be opened');
  };
  await t.rejects(connectDevice(host, options, context()), { message: 'cannot be opened' });
  t.same(nothingLeft(host), NOTHING);
});

t.test('an id that somebody else took in the meantime is followed by the next', async (t) => {
  const host = fakeHost(t.testdir(), { taken: [0, 1] });
  const device = await connectDevice(host, options, context());
  t.equal(device.id, 2);
  t.same([...host.devices.keys()], [2]);
  t.same(
    host.registry.readAll().records.map(({ id }) => id),
    [2],
  );
});

t.test('an id that was asked for is refused when it is taken', async (t) => {
  const host = fakeHost(t.testdir(), { taken: [7] });
  const wanted = optionsFor({ id: 7 });
  await t.rejects(connectDevice(host, wanted, context()), { code: 'UNBD_DEVICE_EXISTS' });
  t.same(nothingLeft(host), NOTHING);
  host.driver.add(7);
  await t.rejects(connectDevice(host, wanted, context()), { code: 'UNBD_DEVICE_EXISTS' });
});

t.test('a name has one device', async (t) => {
  const host = fakeHost(t.testdir());
  await connectDevice(host, options, context());
  await t.rejects(connectDevice(host, options, context()), {
    code: 'UNBD_DEVICE_EXISTS',
    message: /disk belongs to ublkb0/,
  });
});

t.test('two at once get two ids', async (t) => {
  const host = fakeHost(t.testdir());
  const both = [optionsFor(), optionsFor()].map((one) => connectDevice(host, one, context()));
  const ids = (await Promise.all(both)).map(({ id }) => id);
  t.same(ids.sort(), [0, 1]);
});

t.test('a server process that ends early is the error', async (t) => {
  const host = fakeHost(t.testdir(), { hanging: 'arrival' });
  const connecting = connectDevice(host, options, context());
  setTimeout(() => host.endServerProcess('exited with status 1'), 5);
  await t.rejects(connecting, {
    code: 'UNBD_SERVER_PROCESS',
    message: 'the server process exited with status 1',
  });
  t.same(nothingLeft(host), NOTHING);
});

t.test('one that ends later leaves a DEAD device with the reason, until disconnect', async (t) => {
  const host = fakeHost(t.testdir());
  const device = await connectDevice(host, optionsFor({ onCrash: 'fail' }), context());
  host.endServerProcess('was killed by SIGKILL');
  await device.exclusive(async () => undefined);
  await new Promise(setImmediate);
  await device.exclusive(async () => undefined);
  t.match(await device.view(false), { state: 'DEAD', reason: /killed by SIGKILL/ });
  t.same([...host.driver], []);
  t.equal(host.registry.readAll().records[0]?.phase, 'dead');
  await endDevice(host, device, { force: false });
  t.same(nothingLeft(host), NOTHING);
});

t.test('a disk that somebody has open is stopped by force only', async (t) => {
  const host = fakeHost(t.testdir());
  const device = await connectDevice(host, options, context());
  host.nodes.findHolders = () => ({ users: 'open in cat (pid 7)', hasHelper: false });
  await t.rejects(endDevice(host, device, { force: false }), {
    code: 'UNBD_DEVICE_BUSY',
    message: '/dev/ublkb0 is in use: open in cat (pid 7)',
  });
  t.equal(device.state, 'CONNECTED');
  t.notOk(host.calls.includes('disconnect 0'), 'the driver is not asked');
  await endDevice(host, device, { force: true });
  t.ok(host.calls.includes('disconnect 0 force'));
});

t.test('a disk in use is not disconnected, and stays as it was', async (t) => {
  const host = fakeHost(t.testdir(), { failing: 'disconnect 0' });
  const device = await connectDevice(host, options, context());
  await t.rejects(endDevice(host, device, { force: false }), { message: 'disconnect 0 failed' });
  t.equal(device.state, 'CONNECTED');
  t.equal(host.registry.readAll().records[0]?.phase, 'live');
  t.notOk(host.calls.includes('del 0'));
});
