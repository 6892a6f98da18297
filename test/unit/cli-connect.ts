/**
 * Claim: connect passes on what was asked, prints the device's path alone, and ends as documented.
 * Method: the command line in this process, over a gateway that records its calls.
 */
import t from 'tap';
import { GatewayError } from '../../src/protocols/errors.ts';
import { cli, connectWith, deviceView } from '../support/cli.ts';

t.test('stdout is the path of the device, alone', async (t) => {
  const { status, stdout, stderr, calls } = await connectWith('backup.example');
  t.same(
    { status, stdout, stderr, calls },
    { status: 0, stdout: '/dev/ublkb0\n', stderr: '', calls: 1 },
  );
});

t.test('without options the controller decides', async (t) => {
  const { options } = await connectWith('backup.example');
  t.strictSame(options, {
    target: {
      kind: 'nbd',
      endpoint: { kind: 'tcp', host: 'backup.example', port: 10809 },
      exportName: '',
      text: 'nbd://backup.example:10809',
    },
    readOnly: false,
    partitionScan: true,
    dataPath: 'copy',
    handshakeTimeoutMs: 10_000,
  });
});

t.test('what happens in an outage is told in seconds', async (t) => {
  const typed =
    'host --reconnect-delay 1.5 --request-timeout 20 --handshake-timeout 3 --unflushed trust ' +
    '--durability fua --resend-writes no --on-crash fail --open-timeout 7 --resize';
  t.match((await connectWith(...typed.split(' '))).options, {
    reconnectDelayMs: 1500,
    requestTimeoutMs: 20_000,
    handshakeTimeoutMs: 3_000,
    unflushed: 'trust',
    durability: 'fua',
    resendWrites: false,
    onCrash: 'fail',
    openTimeoutMs: 7_000,
    resize: true,
  });
  t.match((await connectWith('host', '--reconnect-delay', 'inf')).options, {
    reconnectDelayMs: -1,
  });
  t.match((await connectWith('host', '--reconnect-delay', '0')).options, { reconnectDelayMs: 0 });
  for (const wrong of ['-1', '1e3', 'soon', '86401', '0x10', '']) {
    const { status, stderr } = await connectWith('host', `--reconnect-delay=${wrong}`);
    t.equal(status, 2, wrong);
    t.match(stderr, /\[UNBD_USAGE\]\n$/);
  }
  const { stderr } = await connectWith('host', '--request-timeout', '0');
  t.match(stderr, /--request-timeout 0 is no time; give seconds from 0.1 to 86400 \[UNBD_USAGE\]/);
});

t.test('every option arrives', async (t) => {
  const typed =
    'host -r -N disk --queues 4 --depth 128 --connections 4 --id 7 --name data ' +
    '--no-partition-scan --block-size 4096 --data-path user-copy --structured-replies';
  const { options } = await connectWith(...typed.split(' '));
  t.match(options, {
    target: { exportName: 'disk' },
    readOnly: true,
    queues: 4,
    depth: 128,
    connections: 4,
    id: 7,
    name: 'data',
    partitionScan: false,
    blockSizeBytes: 4096,
    dataPath: 'user-copy',
    structuredReplies: true,
  });
});

t.test('structured replies are for NBD backends', async (t) => {
  for (const target of ['null:1M', 'file:/disk.img', 'http://host/disk.img', 's3://images/disk']) {
    const { status, stderr, calls } = await connectWith(target, '--structured-replies');
    t.same([status, calls], [2, 0], target);
    t.match(stderr, /--structured-replies is for NBD backends; .*nbd:.* \[UNBD_USAGE\]\n$/);
  }
});

t.test('long forms and = mean the same, and the last one counts', async (t) => {
  const typed = 'host --read-only --export=disk --queues=2 --queues=3 --id=0';
  const { options } = await connectWith(...typed.split(' '));
  t.match(options, { target: { exportName: 'disk' }, readOnly: true, queues: 3, id: 0 });
});

t.test('an export of digits stays text', async (t) => {
  const { options } = await connectWith('host', '-N', '007');
  t.match(options, { target: { exportName: '007' } });
});

t.test('--json prints the device with exact sizes', async (t) => {
  const { stdout } = await connectWith('host', '--json');
  t.equal(stdout.split('\n').length, 2, 'one line');
  t.strictSame(JSON.parse(stdout), {
    id: 0,
    path: '/dev/ublkb0',
    name: null,
    target: 'nbd://backup.example:10809',
    state: 'CONNECTED',
    reason: null,
    sizeBytes: 1_610_612_736,
    readOnly: false,
    queues: 1,
    depth: 64,
    logicalBlockBytes: 512,
    serverPid: 4711,
    serverVersion: null,
    connectedAtMs: 1_700_000_000_000,
  });
});

t.test('--foreground prints the path when the device is ready, and stays', async (t) => {
  const order: string[] = [];
  const result = await cli(['connect', 'host', '--foreground'], {
    gateway: {
      connectForeground: async (_options, signal, onReady) => {
        t.ok(signal instanceof AbortSignal);
        onReady(deviceView());
        order.push('ready');
      },
    },
  });
  t.same(result, { status: 0, stdout: '/dev/ublkb0\n', stderr: '' });
  t.same(order, ['ready']);
});

t.test('an interrupted connect ends with 130 after the undo is confirmed', async (t) => {
  const interruption = new AbortController();
  let undone = false;
  const running = cli(['connect', 'host'], {
    signal: interruption.signal,
    gateway: {
      connect: (_options, signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            undone = true;
            reject(new GatewayError('UNBD_INTERRUPTED', 'interrupted'));
          });
          interruption.abort();
        }),
    },
  });
  const { status, stdout, stderr } = await running;
  t.ok(undone);
  t.same([status, stdout, stderr], [130, '', 'ublk-nbd: interrupted [UNBD_INTERRUPTED]\n']);
});

t.test('an error is one line of cause, cure and code', async (t) => {
  const connect = async () => {
    throw new GatewayError('UNBD_BACKEND_UNREACHABLE', 'host:10809 refused the connection', {
      hint: 'is the backend running?',
      cause: new Error('connect ECONNREFUSED'),
    });
  };
  const line =
    'ublk-nbd: host:10809 refused the connection; is the backend running? ' +
    '[UNBD_BACKEND_UNREACHABLE]\n';
  const plain = await cli(['connect', 'host'], { gateway: { connect } });
  t.same(plain, { status: 5, stdout: '', stderr: line });

  const flag = await cli(['connect', 'host', '--debug'], { gateway: { connect } });
  const environment = await cli(['connect', 'host'], { gateway: { connect }, debug: true });
  for (const { stderr } of [flag, environment]) {
    t.ok(stderr.startsWith(line), 'the line comes first');
    t.match(stderr, /ublk-nbd: Error: connect ECONNREFUSED\n {4}at /, 'then the stacks');
  }
});

t.test('what is thrown and is no error of ours hides its stack', async (t) => {
  const connect = async () => {
    throw new TypeError('cannot read\nproperty');
  };
  const { status, stderr } = await cli(['connect', 'host'], { gateway: { connect } });
  t.equal(status, 70);
  t.equal(stderr, 'ublk-nbd: cannot read property [UNBD_INTERNAL]\n');
});
