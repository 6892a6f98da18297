/**
 * Claim: requests are answered both ways, errors keep code and cure, an abort reaches the handler,
 * and what is no ublk-nbd of our version is refused in one clear line.
 * Method: two peers over a unix socket of this process; the hostile ones write bytes of their own.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Packr } from 'msgpackr/pack';
import t, { type Test } from 'tap';
import { FrameDecoder } from '../../src/gateway/frames.ts';
import { RPC_VERSION } from '../../src/gateway/messages.ts';
import { Peer, type PeerOptions, type RequestContext } from '../../src/gateway/rpc.ts';
import { GatewayError } from '../../src/protocols/errors.ts';

type Options = Partial<PeerOptions>;

const defaults: PeerOptions = {
  role: 'cli',
  helloTimeoutMs: 60_000,
  otherSide: 'the controller',
  closedCode: 'UNBD_CONTROLLER',
};

/** Two connected sockets; both, and the folder they met in, go with the test. */
async function socketPair(t: Test): Promise<[Socket, Socket]> {
  const folder = mkdtempSync(join(tmpdir(), 'unbd-rpc-'));
  const path = join(folder, 's');
  let server: Server | undefined;
  const accepted = new Promise<Socket>((resolve) => {
    server = createServer(resolve);
  });
  await new Promise<void>((resolve) => server?.listen(path, resolve));
  const near = createConnection({ path });
  const far = await accepted;
  far.on('error', () => undefined);
  near.on('error', () => undefined);
  t.teardown(() => {
    near.destroy();
    far.destroy();
    server?.close();
    rmSync(folder, { recursive: true });
  });
  return [near, far];
}

async function peers(t: Test, near: Options, far: Options): Promise<[Peer, Peer]> {
  const [one, other] = await socketPair(t);
  return Promise.all([
    Peer.open(one, { ...defaults, ...near }),
    Peer.open(other, { ...defaults, role: 'controller', otherSide: 'a client', ...far }),
  ]);
}

function frame(message: unknown): Buffer {
  const body = new Packr({ useRecords: false }).pack(message);
  const head = Buffer.alloc(4);
  head.writeUInt32BE(body.length);
  return Buffer.concat([head, body]);
}

const helloOf = (version: number) => ({ hello: 'ublk-nbd', version, role: 'controller', pid: 77 });

t.test('requests go both ways at the same time', async (t) => {
  const twice = async (_: string, argument: unknown) => [argument, argument];
  const [near, far] = await peers(t, { onRequest: twice }, { onRequest: twice });
  const answers = await Promise.all([
    ...Array.from({ length: 50 }, (_, index) => near.request('twice', index)),
    ...Array.from({ length: 50 }, (_, index) => far.request('twice', `f${index}`)),
  ]);
  t.same(answers[49], [49, 49]);
  t.same(answers[99], ['f49', 'f49']);
  t.equal(near.remote.role, 'controller');
  t.equal(far.remote.role, 'cli');
});

t.test('an error arrives with its code and its cure, a foreign one as internal', async (t) => {
  const onRequest = async (name: string) => {
    if (name === 'own') throw new GatewayError('UNBD_DEVICE_BUSY', 'in use', { hint: 'umount' });
    throw new TypeError('x is not a function');
  };
  const [near] = await peers(t, {}, { onRequest });
  await t.rejects(near.request('own', null), {
    code: 'UNBD_DEVICE_BUSY',
    message: 'in use',
    hint: 'umount',
  });
  await t.rejects(near.request('foreign', null), { code: 'UNBD_INTERNAL' });
});

t.test('progress reaches the asker before the answer', async (t) => {
  const onRequest = async (_: string, __: unknown, context: RequestContext) => {
    context.progress('half');
    return 'done';
  };
  const [near] = await peers(t, {}, { onRequest });
  const seen: string[] = [];
  seen.push(String(await near.request('x', null, { onProgress: (text) => seen.push(text) })));
  t.same(seen, ['half', 'done']);
});

t.test('an abort reaches the handler, and the asker waits for its undo', async (t) => {
  let undone = false;
  const onRequest = (_: string, __: unknown, { signal }: RequestContext) =>
    new Promise((_resolve, reject) => {
      signal.addEventListener('abort', async () => {
        await delay(30);
        undone = true;
        reject(new GatewayError('UNBD_INTERRUPTED', 'interrupted'));
      });
    });
  const [near] = await peers(t, {}, { onRequest });
  const abort = new AbortController();
  const request = near.request('x', null, { signal: abort.signal });
  setTimeout(() => abort.abort(), 10);
  await t.rejects(request, { code: 'UNBD_INTERRUPTED' });
  t.ok(undone);
});

t.test('a connection that ends aborts handlers and rejects what is pending', async (t) => {
  let aborted = false;
  const onRequest = (_: string, __: unknown, { signal }: RequestContext) =>
    new Promise((_resolve) => signal.addEventListener('abort', () => (aborted = true)));
  const [near, far] = await peers(t, {}, { onRequest });
  const request = near.request('x', null);
  await delay(20);
  near.close();
  await t.rejects(request, { code: 'UNBD_CONTROLLER', message: /closed the connection/ });
  await far.closed;
  t.ok(aborted);
  await t.rejects(near.request('x', null), { code: 'UNBD_CONTROLLER' }, 'and later ones');
});

t.test('a request has its limit of time', async (t) => {
  const [near] = await peers(t, {}, { onRequest: () => new Promise(() => undefined) });
  const request = near.request('x', null, { timeoutMs: 20 });
  await t.rejects(request, { message: /did not answer 'x' in 20 ms/ });
});

t.test('more than 256 requests pending are refused, not queued', async (t) => {
  const [near] = await peers(t, {}, { onRequest: () => new Promise(() => undefined) });
  const pending = Array.from({ length: 256 }, () => near.request('x', null));
  const refused = Promise.allSettled(pending);
  await t.rejects(near.request('x', null), { message: /too many requests/ });
  near.close();
  const codes = (await refused).map((end) => end.status === 'rejected' && end.reason.code);
  t.same([...new Set(codes)], ['UNBD_CONTROLLER']);
});

t.test('another version is refused with the cure', async (t) => {
  const [near, far] = await socketPair(t);
  far.write(frame(helloOf(99)));
  await t.rejects(Peer.open(near, defaults), {
    code: 'UNBD_VERSION',
    message: /version 99/,
    hint: /kill 77/,
  });
  t.ok(near.destroyed);
});

t.test('a version before or after is understood, both ways', async (t) => {
  const [older, newer] = [RPC_VERSION - 1, RPC_VERSION + 1];
  const spoken = [
    helloOf(RPC_VERSION),
    { ...helloOf(older), oldest: older - 1 },
    { ...helloOf(newer), oldest: RPC_VERSION },
  ];
  for (const hello of spoken) {
    const [near, far] = await socketPair(t);
    const said = once(far, 'data');
    far.write(frame(hello));
    const peer = await Peer.open(near, defaults);
    t.equal(peer.remote.version, hello.version);
    const [bytes] = (await said) as [Buffer];
    const ours = new FrameDecoder().push(bytes)[0];
    t.match(ours, { version: RPC_VERSION, oldest: older }, 'and we say what we understand');
  }
  const strange = [
    helloOf(older - 1),
    helloOf(newer),
    { ...helloOf(newer + 1), oldest: newer },
    { ...helloOf(older - 1), oldest: 0 },
  ];
  for (const hello of strange) {
    const [near, far] = await socketPair(t);
    far.write(frame(hello));
    await t.rejects(Peer.open(near, defaults), { code: 'UNBD_VERSION' });
  }
});

t.test('silence, noise and a wrong hello end in an error and a closed socket', async (t) => {
  const firsts: Record<string, Buffer> = {
    silence: Buffer.alloc(0),
    noise: Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    'a number': frame(7),
    'no version': frame({ hello: 'ublk-nbd', role: 'cli', pid: 1 }),
    'another program': frame({ ...helloOf(1), hello: 'other' }),
    'an oldest that is no number': frame({ ...helloOf(1), oldest: 'x' }),
  };
  for (const [name, bytes] of Object.entries(firsts)) {
    const [near, far] = await socketPair(t);
    far.write(bytes);
    const opening = Peer.open(near, { ...defaults, helloTimeoutMs: 50 });
    await t.rejects(opening, { code: 'UNBD_CONTROLLER' }, name);
    t.ok(near.destroyed, name);
  }
});

t.test('after the hello, what is no message closes the connection', async (t) => {
  const bad: Record<string, Buffer> = {
    'a frame without message': Buffer.from([0, 0, 0, 1, 0xc1]),
    'no array': frame({ a: 1 }),
    'an unknown kind': frame([99, 1, 'x', null]),
    'a request without a name': frame([0, 1, 7, null]),
    oversize: Buffer.from([0xff, 0xff, 0xff, 0xff]),
  };
  for (const [name, bytes] of Object.entries(bad)) {
    const [near, far] = await socketPair(t);
    far.write(frame(helloOf(1)));
    const peer = await Peer.open(near, defaults);
    far.write(bytes);
    await peer.closed;
    t.ok(peer.isClosed, name);
  }
});

t.test('an answer that nobody asked for changes nothing', async (t) => {
  const [near, far] = await socketPair(t);
  far.write(Buffer.concat([frame(helloOf(1)), frame([1, 12, 'surprise']), frame([4, 3, 'p'])]));
  const peer = await Peer.open(near, defaults);
  await delay(20);
  t.notOk(peer.isClosed);
});
