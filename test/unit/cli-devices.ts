/**
 * Claim: list, disconnect and logs do what the controller says, for people and for machines.
 * Method: the command line in this process, over a gateway that the test scripts.
 */
import t from 'tap';
import type { DisconnectHow } from '../../src/gateway/drain.ts';
import type { DeviceEvent, DeviceView } from '../../src/gateway/messages.ts';
import { GatewayError } from '../../src/protocols/errors.ts';
import { cli, deviceView } from '../support/cli.ts';

const listOf = (...devices: DeviceView[]) => ({ list: async () => devices });

t.test('list without devices prints nothing, --json prints []', async (t) => {
  const plain = await cli(['list'], { gateway: listOf() });
  t.same(plain, { status: 0, stdout: '', stderr: '' });
  const verbose = await cli(['list', '-v'], { gateway: listOf() });
  t.same(verbose, { status: 0, stdout: '', stderr: '' });
  const json = await cli(['list', '--json'], { gateway: listOf() });
  t.same(json, { status: 0, stdout: '[]\n', stderr: '' });
});

t.test('list aligns its columns and says why a device is not connected', async (t) => {
  const { stdout } = await cli(['list'], {
    gateway: listOf(
      deviceView({ name: 'data' }),
      deviceView({
        id: 12,
        path: '/dev/ublkb12',
        target: 'nbd://[::1]:10809/x',
        state: 'FATAL',
        reason: 'backend closed',
        sizeBytes: 512n,
        readOnly: true,
      }),
    ),
  });
  t.equal(
    stdout,
    'DEVICE        SIZE  MODE  STATE                   NAME  TARGET\n' +
      '/dev/ublkb0   1.5G  rw    CONNECTED               data  nbd://backup.example:10809\n' +
      '/dev/ublkb12  512B  ro    FATAL (backend closed)  -     nbd://[::1]:10809/x\n',
  );
});

t.test('text from outside cannot break the table', async (t) => {
  const { stdout } = await cli(['list'], {
    gateway: listOf(deviceView({ reason: 'a\nb\u001b[2J', state: 'FATAL' })),
  });
  t.equal(stdout.split('\n').length, 3);
  t.notMatch(stdout, '\u001b');
});

t.test('list -v asks for details and shows them', async (t) => {
  const asked: boolean[] = [];
  const details = {
    backend: {
      sizeBytes: 1_610_612_736n,
      readOnly: false,
      canFlush: true,
      canFua: true,
      canTrim: true,
      canWriteZeroes: true,
      canFastZero: false,
      canMultiConn: true,
      rotational: false,
      minimumBlockBytes: 1,
      preferredBlockBytes: 4096,
      maximumBlockBytes: 33_554_432,
    },
    dataPath: 'copy',
    maxIoBytes: 1_048_576,
    counters: { reads: 18_014_398_509_481_984n, inFlight: 3, prefetchedBytes: 5n },
  } as const;
  const gateway = {
    list: async (verbose: boolean) => {
      asked.push(verbose);
      return [deviceView({ details })];
    },
  };
  const { stdout } = await cli(['list', '-v'], { gateway });
  t.same(asked, [true]);
  t.match(stdout, /^\/dev\/ublkb0\n {2}target +nbd:\/\/backup\.example:10809\n/);
  t.match(stdout, /^ {2}reads +18014398509481984$/m);
  t.match(stdout, /^ {2}prefetchedBytes +5 of 1610612736$/m, 'how far it is');
  t.match(stdout, /^ {2}connected at +2023-11-14T22:13:20\.000Z$/m);

  const json = await cli(['list', '-v', '--json'], { gateway });
  const [device] = JSON.parse(json.stdout);
  t.equal(device.sizeBytes, 1_610_612_736, 'a number while a double holds it');
  t.equal(device.details.counters.reads, '18014398509481984', 'a string beyond');
  t.equal(device.details.backend.maximumBlockBytes, 33_554_432);
});

t.test('disconnect passes the device as it was typed', async (t) => {
  const calls: unknown[][] = [];
  const disconnect = async (device: string, how: DisconnectHow) =>
    void calls.push([device, how.force, how.drainTimeoutMs]);
  for (const device of ['0', 'ublkb0', '/dev/ublkb0', 'data']) {
    const result = await cli(['disconnect', device], { gateway: { disconnect } });
    t.same(result, { status: 0, stdout: '', stderr: '' });
  }
  await cli(['disconnect', 'data', '--force'], { gateway: { disconnect } });
  await cli(['disconnect', 'data', '--drain-timeout', '1.5'], { gateway: { disconnect } });
  t.same(calls, [
    ['0', false, undefined],
    ['ublkb0', false, undefined],
    ['/dev/ublkb0', false, undefined],
    ['data', false, undefined],
    ['data', true, undefined],
    ['data', false, 1500],
  ]);
  const wrong = await cli(['disconnect', 'data', '--drain-timeout', 'inf']);
  t.match(wrong, { status: 2, stderr: /--drain-timeout inf is no time; give seconds/ });
});

t.test('disconnect --all tries every device and tells every refusal', async (t) => {
  const tried: string[] = [];
  const refusal = (path: string) =>
    new GatewayError('UNBD_DEVICE_BUSY', `${path} is mounted`, { hint: 'unmount it' });
  const gateway = {
    ...listOf(...[0, 1, 2, 3].map((id) => deviceView({ id, path: `/dev/ublkb${id}` }))),
    disconnect: async (path: string) => {
      tried.push(path);
      if (path.endsWith('1')) throw new GatewayError('UNBD_DEVICE_ABSENT', 'it is gone');
      if (path.endsWith('0') || path.endsWith('2')) throw refusal(path);
    },
  };
  const { status, stdout, stderr } = await cli(['disconnect', '--all'], { gateway });
  t.same(tried, ['/dev/ublkb0', '/dev/ublkb1', '/dev/ublkb2', '/dev/ublkb3']);
  t.equal(status, 9);
  t.equal(stdout, '');
  t.equal(
    stderr,
    'ublk-nbd: /dev/ublkb0 is mounted; unmount it [UNBD_DEVICE_BUSY]\n' +
      'ublk-nbd: /dev/ublkb2 is mounted; unmount it [UNBD_DEVICE_BUSY]\n',
  );
});

t.test('disconnect --all without devices succeeds', async (t) => {
  const result = await cli(['disconnect', '--all'], { gateway: listOf() });
  t.same(result, { status: 0, stdout: '', stderr: '' });
});

t.test('logs prints the lines of one device or of all', async (t) => {
  const asked: unknown[] = [];
  const logs = async function* (device: string | undefined) {
    asked.push(device);
    yield 'first';
    yield 'second';
  };
  t.equal((await cli(['logs'], { gateway: { logs } })).stdout, 'first\nsecond\n');
  await cli(['logs', 'data'], { gateway: { logs } });
  t.same(asked, [undefined, 'data']);
});

t.test('recover asks for one device or for all, and tells every refusal', async (t) => {
  const asked: string[] = [];
  const gateway = {
    list: async () => [deviceView(), deviceView({ id: 1, path: '/dev/ublkb1' })],
    recover: async (device: string) => {
      asked.push(device);
      if (device.endsWith('0')) throw new GatewayError('UNBD_SERVER_PROCESS', 'ublkb0 is DEAD');
    },
  };
  t.match(await cli(['recover', 'disk'], { gateway }), { status: 0, stdout: '', stderr: '' });
  const all = await cli(['recover', '--all'], { gateway });
  t.match(all, { status: 11, stderr: /ublkb0 is DEAD/ });
  t.same(asked, ['disk', '/dev/ublkb0', '/dev/ublkb1']);
  t.equal((await cli(['recover'], { gateway })).status, 2);
});

t.test('upgrade tells of the controller and of each device, and of every refusal', async (t) => {
  let ends = 0;
  const views = [deviceView(), deviceView({ id: 1, path: '/dev/ublkb1' })];
  const upgrade = {
    before: { version: '1.2.2', pid: 7 },
    after: { version: '1.2.3', pid: 8 },
    device: async (device: string) => {
      if (device.endsWith('0')) throw new GatewayError('UNBD_USAGE', 'ublkb0 cannot be upgraded');
      const [before, after] = [views[1] ?? deviceView(), views[1] ?? deviceView()];
      return { before, after, pauseMs: 5, text: 'process 1 (1.2.2) -> process 2 (1.2.3)' };
    },
    end: () => {
      ends += 1;
    },
  };
  const gateway = { list: async () => views, beginUpgrade: async () => upgrade };
  const controller = 'controller: process 7 (1.2.2) -> process 8 (1.2.3)\n';
  const device = '/dev/ublkb1: process 1 (1.2.2) -> process 2 (1.2.3)\n';
  const one = await cli(['upgrade', '1'], { gateway });
  t.same(one, { status: 0, stdout: controller + device, stderr: '' });
  const all = await cli(['upgrade', '--all'], { gateway });
  t.match(all, { status: 2, stdout: controller + device, stderr: /ublkb0 cannot/ });
  t.equal(ends, 2, 'the lock is given back');
  const stopped = await cli(['upgrade', '--all'], { gateway, signal: AbortSignal.abort() });
  t.match(stopped, { status: 130, stdout: controller, stderr: /what was begun is done/ });
  t.equal((await cli(['upgrade'], { gateway })).status, 2);
  t.equal(ends, 3);
});

t.test('events prints a line for each, or an object', async (t) => {
  const event = { atMs: 0, device: 2, kind: 'reissued', text: 'process 7 took over' } as const;
  const gateway = {
    events: async (_: AbortSignal, onEvent: (one: DeviceEvent) => void) => {
      onEvent(event);
      onEvent({ ...event, missed: 3 });
    },
  };
  t.equal(
    (await cli(['events'], { gateway })).stdout,
    '1970-01-01T00:00:00.000Z /dev/ublkb2 reissued: process 7 took over\n' +
      '1970-01-01T00:00:00.000Z /dev/ublkb2 reissued: process 7 took over' +
      ' (3 events before it were missed)\n',
  );
  const [first = ''] = (await cli(['events', '--json'], { gateway })).stdout.split('\n');
  t.same(JSON.parse(first), { atMs: 0, id: 2, kind: 'reissued', text: event.text, missed: 0 });
});
