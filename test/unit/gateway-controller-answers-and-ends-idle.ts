/**
 * Claim: the controller answers over its socket, takes server processes back after their connection
 * broke, ends those that serve nothing but not those of another owner, and goes when it is idle.
 * Method: a controller in this process over a host without a kernel; clients and server processes
 * are connections of this test.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock } from 'node:test';
import t, { type Test } from 'tap';
import { Arrivals } from '../../src/gateway/arrivals.ts';
import { callOver } from '../../src/gateway/client.ts';
import { Controller } from '../../src/gateway/controller.ts';
import type { Role } from '../../src/gateway/hello.ts';
import type { Host } from '../../src/gateway/host.ts';
import { Operations } from '../../src/gateway/operations.ts';
import { identify } from '../../src/gateway/process.ts';
import { Peer, type PeerOptions } from '../../src/gateway/rpc.ts';
import { type FakeHost, type Faults, fakeHost, optionsFor, VERSION } from '../support/fake-host.ts';

const IDLE_MS = 30;
/** Of the event loop: after so many the end of a connection is known. */
const TURNS = 50;

interface Running {
  readonly host: FakeHost;
  readonly controller: Controller;
  peer(role: Role, more?: Partial<PeerOptions>): Promise<Peer>;
}

async function start(t: Test, idleExitMs?: number, faults: Faults = {}): Promise<Running> {
  const folder = mkdtempSync(join(tmpdir(), 'unbd-ctl-'));
  const socketPath = join(folder, 's');
  const host: FakeHost = { ...fakeHost(t.testdir(), faults), socketPath };
  const operations = new Operations(host as Host, VERSION);
  const controller = new Controller(host, new Arrivals(), operations, idleExitMs);
  await controller.listen();
  t.teardown(() => {
    controller.close();
    rmSync(folder, { recursive: true });
  });
  const peer = async (role: Role, more: Partial<PeerOptions> = {}) => {
    const socket = createConnection({ path: socketPath });
    t.teardown(() => socket.destroy());
    return Peer.open(socket, {
      role,
      helloTimeoutMs: 60_000,
      otherSide: 'the controller',
      closedCode: 'UNBD_CONTROLLER',
      ...more,
    });
  };
  return { host, controller, peer };
}

t.test('connect, list and disconnect over the socket', async (t) => {
  const { host, peer } = await start(t);
  const call = callOver(await peer('cli'));
  t.same(await call('ping', null), { version: VERSION, pid: process.pid, isForeground: true });
  const seen: string[] = [];
  const onProgress = (text: string) => seen.push(text);
  const device = await call('connect', optionsFor({ name: 'a' }), { onProgress });
  t.match(device, { id: 0, path: '/dev/ublkb0', name: 'a', state: 'CONNECTED', target: 'null:1M' });
  t.equal(seen[0], 'choose a device number');
  t.match(await call('list', { verbose: true }), [{ id: 0, details: { dataPath: 'copy' } }]);
  await t.rejects(call('disconnect', { device: 'b', force: false }), {
    code: 'UNBD_DEVICE_ABSENT',
  });
  t.same(await call('disconnect', { device: '/dev/ublk-nbd/a', force: false }), { id: 0 });
  t.same(await call('list', { verbose: false }), []);
  t.same([...host.driver], []);
});

t.test('a client that goes away while it waits leaves nothing', async (t) => {
  const gone = { client: undefined as Peer | undefined };
  const onCall = (name: string) => name === 'peer open' && gone.client?.close();
  const { host, peer } = await start(t, undefined, { hanging: 'peer open', onCall });
  gone.client = await peer('cli');
  await t.rejects(callOver(gone.client)('connect', optionsFor()), { code: 'UNBD_CONTROLLER' });
  const other = callOver(await peer('cli'));
  while (host.devices.size > 0) await other('ping', null);
  t.same([...host.driver], []);
  t.same(host.registry.readAll().records, []);
});

t.test('a device that another program deleted is DEAD in the next list', async (t) => {
  const { host, peer } = await start(t);
  const call = callOver(await peer('cli'));
  await call('connect', optionsFor());
  host.driver.clear();
  t.match(await call('list', { verbose: false }), [{ state: 'DEAD', reason: /another program/ }]);
});

t.test(
  'a server process that says hello again is taken back, with what it has to tell',
  async (t) => {
    const { host, peer } = await start(t);
    const call = callOver(await peer('cli'));
    await call('connect', optionsFor());
    const { token } = host.registry.readAll().records[0] ?? {};
    const server = await peer('server-process', { details: { token } });
    server.event('backend', { state: 'HOLDING', text: 'it is gone' });
    let [view] = await call('list', { verbose: false });
    while (view?.state === 'CONNECTED') [view] = await call('list', { verbose: false });
    t.match(view, { state: 'HOLDING', reason: 'it is gone' });
    server.event('backend', { state: 'CONNECTED', text: '3 requests' });
    while (view?.state === 'HOLDING') [view] = await call('list', { verbose: false });
    t.match(view, { state: 'CONNECTED' });
  },
);

t.test('what a server process tells while its device is adopted is heard', async (t) => {
  const { host, peer } = await start(t);
  const serverProcess = identify(process.ppid);
  if (serverProcess === undefined) throw new Error('the test has no parent');
  const owner = { pid: process.pid, startTicks: '0', foreground: false };
  const record = { version: 1, id: 9, token: 'z', phase: 'live', options: optionsFor() } as const;
  host.registry.claim({ ...record, owner, serverProcess, connectedAtMs: 1, madeNodes: [] });
  host.control.info = async () => {
    await new Promise((resolve) => setTimeout(resolve, 100));
    return { state: 'LIVE', serverPid: serverProcess.pid };
  };
  const server = await peer('server-process', { details: { token: 'z' } });
  server.event('backend', { state: 'HOLDING', text: 'it is gone' });
  const call = callOver(await peer('cli'));
  let [view] = await call('list', { verbose: true });
  while (view?.state === 'CONNECTED') [view] = await call('list', { verbose: false });
  t.match(view, { id: 9, state: 'HOLDING', reason: 'it is gone' });
});

t.test('a server process without a device is ended, one of another owner is not', async (t) => {
  const { host, peer } = await start(t);
  const asked: string[] = [];
  const onRequest = async (name: string) => asked.push(name);
  await (await peer('server-process', { details: { token: 'x' }, onRequest })).closed;
  t.same(asked, ['shutdown']);
  const parent = identify(process.ppid);
  if (parent === undefined) throw new Error('the test has no parent');
  const owner = { ...parent, foreground: true };
  const record = { version: 1, id: 9, token: 'y', phase: 'live', options: optionsFor() } as const;
  host.registry.claim({ ...record, owner, connectedAtMs: 1, madeNodes: [] });
  await (await peer('server-process', { details: { token: 'y' }, onRequest })).closed;
  t.same(asked, ['shutdown'], 'not asked to end');
});

t.test('shutdown is refused while devices are there, unless they may stay', async (t) => {
  const { controller, host, peer } = await start(t);
  const call = callOver(await peer('cli'));
  await call('connect', optionsFor());
  await t.rejects(call('shutdown', { keepDevices: false }), { code: 'UNBD_DEVICE_BUSY' });
  await call('shutdown', { keepDevices: true });
  await controller.ended;
  t.same([...host.driver], [0]);
  t.equal(host.calls.at(-1), 'peer event goodbye', 'so that nobody starts another');
});

t.test('upgrade gives the device to another server process', async (t) => {
  const { host, peer } = await start(t);
  const call = callOver(await peer('cli'));
  await call('connect', optionsFor());
  // Whoever took part in the connect has a peer of its own, in place of a socket.
  const { before, after } = await call('upgrade', { device: '0' });
  t.match([before, after], [{ id: 0 }, { id: 0, serverVersion: VERSION }]);
  t.equal(host.calls.filter((one) => one === 'launch').length, 2);
  await t.rejects(call('upgrade', { device: '1' }), { code: 'UNBD_DEVICE_ABSENT' });
});

t.test('shutdown waits for what is under way', async (t) => {
  let goOn: () => void = () => undefined;
  const { controller, host, peer } = await start(t);
  const call = callOver(await peer('cli'));
  host.control.features = async () => {
    await new Promise<void>((resolve) => (goOn = resolve));
    return 0xfffffn;
  };
  const connecting = call('connect', optionsFor());
  while (host.devices.size === 0) await call('ping', null);
  let isEnded = false;
  const ending = callOver(await peer('cli'))('shutdown', { keepDevices: true });
  const ended = controller.ended.then(() => (isEnded = true));
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.notOk(isEnded);
  goOn();
  t.match(await connecting, { id: 0, state: 'CONNECTED' }, 'it was finished');
  t.equal(await ending, null);
  await ended;
  t.same([...host.driver], [0]);
});

t.test('it goes when it has been idle, not while a device or a client is there', async (t) => {
  // A clock of the test's own: by the machine's, a client may take longer to come than that.
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const { controller, host, peer } = await start(t, IDLE_MS);
  const idle = async (): Promise<void> => {
    for (let turn = 0; turn < TURNS; turn += 1) await new Promise(setImmediate);
    for (let times = 0; times < 4; times += 1) mock.timers.tick(IDLE_MS);
  };
  const client = await peer('cli');
  const call = callOver(client);
  await call('connect', optionsFor());
  client.close();
  await idle();
  t.ok(existsSync(host.socketPath), 'a device keeps it');
  const again = await peer('cli');
  await callOver(again)('disconnect', { device: '0', force: false });
  await idle();
  t.ok(existsSync(host.socketPath), 'a client keeps it');
  again.close();
  let isEnded = false;
  void controller.ended.then(() => (isEnded = true));
  while (!isEnded) await idle();
  t.notOk(existsSync(host.socketPath));
});
