/**
 * Claim: JS makes, opens and replays logs of unflushed writes, and each failure has its code; a log
 * as version 1 wrote it is still read.
 * Method: the addon on files of the test's own, one written byte by byte as the format says, and a
 * backend of a few lines on a unix socket.
 */
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { loadAddon, type NativeTransport } from '../../src/gateway/native.ts';

const RING_BYTES = 65_536;
/** For what is answered at once, unless the machine stands still. */
const PATIENCE_MS = 60_000;
const OFFSET = 8192n;
const PAYLOAD = Buffer.from('acknowledged, and then forgotten');

const folder = mkdtempSync(join(tmpdir(), 'unbd-log-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const { UnflushedLog, connectTransport } = loadAddon();

/** The second half of an entry's head: its kind and the check of the whole. */
function checked(sequence: bigint, offset: bigint, length: bigint, kind: bigint): Buffer {
  const odd = 0x9e3779b97f4a7c15n;
  const cut = (value: bigint) => BigInt.asUintN(64, value);
  let mixed = cut((sequence + 1n) * odd);
  for (const next of [offset, length, kind]) mixed = cut((mixed ^ (mixed >> 32n) ^ next) * odd);
  const bytes = Buffer.alloc(32);
  for (const [at, value] of [sequence, offset, length].entries()) {
    bytes.writeBigUInt64LE(value, at * 8);
  }
  bytes.writeUInt32LE(Number(kind), 24);
  bytes.writeUInt32LE(Number(mixed >> 32n), 28);
  return bytes;
}

/** A log of one queue with one write in it. */
function written(name: string): string {
  const path = join(folder, name);
  UnflushedLog.create(path, 1, RING_BYTES).close();
  const file = openSync(path, 'r+');
  const number = (value: bigint) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(value);
    return bytes;
  };
  writeSync(file, number(1n), 0, 8, 64);
  writeSync(file, number(2n << 32n), 0, 8, 192);
  writeSync(file, Buffer.concat([checked(1n, OFFSET, 32n, 1n), PAYLOAD]), 0, 64, 4096);
  closeSync(file);
  return path;
}

const CONFIG = {
  sizeBytes: 1n << 20n,
  structuredReplies: false,
  canTrim: true,
  canWriteZeroes: true,
  maximumBlockBytes: 1 << 20,
  minimumBlockBytes: 512,
  epoch: 7,
};

/** A backend that answers requests as `answer` says. */
async function backend(
  name: string,
  answer: (request: Buffer, socket: Socket) => void,
): Promise<{ server: Server; transport: NativeTransport }> {
  const path = join(folder, name);
  const server = createServer((socket) => {
    socket.on('data', (request) => answer(request, socket)).on('error', () => {});
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return { server, transport: await connectTransport({ kind: 'unix', path }, PATIENCE_MS) };
}

function simpleReply(request: Buffer, error: number): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(0x67446698);
  head.writeUInt32BE(error, 4);
  return Buffer.concat([head, request.subarray(8, 16)]);
}

t.test('a log is made once and is empty', async (t) => {
  const path = join(folder, 'new');
  const log = UnflushedLog.create(path, 2, RING_BYTES);
  t.equal(log.entries, 0);
  t.equal(log.bytes, 0n);
  t.throws(() => UnflushedLog.create(path, 2, RING_BYTES), { code: 'EEXIST', message: /EEXIST/ });
  t.throws(() => UnflushedLog.open(path, 2, RING_BYTES), { code: 'EBUSY' });
  t.throws(() => UnflushedLog.create(`${path}2`, 2, 1000), { code: 'EINVAL', message: /size/ });
  log.unlink();
  log.unlink();
  t.notOk(existsSync(path));
  log.close();
  log.close();
  t.throws(() => log.entries, { code: 'EBADF' });
  t.throws(() => UnflushedLog.open(path, 2, RING_BYTES), { code: 'ENOENT' });
});

t.test('a hold and the count of connections are kept for a successor', async (t) => {
  const path = join(folder, 'kept');
  const log = UnflushedLog.create(path, 1, RING_BYTES);
  t.equal(log.holdDeadlineMs, undefined);
  t.equal(log.nextEpoch(), 1);
  log.holdDeadlineMs = -1;
  t.equal(log.holdDeadlineMs, -1);
  log.holdDeadlineMs = 0;
  t.equal(log.holdDeadlineMs, 0);
  log.holdDeadlineMs = 60_000;
  log.close();
  const successor = UnflushedLog.open(path, 1, RING_BYTES);
  const left = successor.holdDeadlineMs ?? 0;
  t.ok(left > 30_000 && left <= 60_000);
  t.equal(successor.nextEpoch(), 2);
  successor.holdDeadlineMs = undefined;
  t.equal(successor.holdDeadlineMs, undefined);
  t.throws(() => {
    successor.holdDeadlineMs = -5;
  }, TypeError);
});

t.test('what the log holds is sent again, and the transport comes back', async (t) => {
  const log = UnflushedLog.open(written('replayed'), 1, RING_BYTES);
  t.equal(log.entries, 1);
  t.equal(log.bytes, 32n);
  let got = Buffer.alloc(0);
  const { server, transport } = await backend('replay.sock', (request, socket) => {
    got = Buffer.concat([got, request]);
    if (got.length === 28 + 32) socket.write(simpleReply(got, 0));
  });
  const replaying = log.replay(transport, CONFIG, PATIENCE_MS);
  t.throws(() => log.replay(transport, CONFIG, PATIENCE_MS), TypeError, 'the transport is in use');
  t.strictSame(await replaying, { entries: 1, bytes: 32n });
  t.equal(got.readUInt16BE(6), 1, 'a WRITE');
  t.equal(got.readUInt16BE(8), 7, 'with the epoch in its cookie');
  t.equal(got.readBigUInt64BE(16), OFFSET);
  t.strictSame(got.subarray(28), PAYLOAD);
  await transport.send(Buffer.from('still connected'), PATIENCE_MS);
  transport.close();
  server.close();
});

t.test('why a replay failed is told by code and outcome', async (t) => {
  const log = UnflushedLog.open(written('failing'), 1, RING_BYTES);
  const cases = [
    { code: 'ENOSPC', outcome: 'refused', reply: (head: Buffer) => simpleReply(head, 28) },
    { code: 'ESHUTDOWN', outcome: 'lost', reply: (head: Buffer) => simpleReply(head, 108) },
    { code: 'EPROTO', outcome: 'violation', reply: (head: Buffer) => head },
    { code: 'ETIMEDOUT', outcome: 'timed-out', reply: () => Buffer.alloc(1) },
  ];
  for (const { code, outcome, reply } of cases) {
    const { server, transport } = await backend(`${code}.sock`, (head, socket) => {
      socket.write(reply(head));
    });
    const limitMs = outcome === 'timed-out' ? 200 : PATIENCE_MS;
    await t.rejects(log.replay(transport, CONFIG, limitMs), { code, outcome });
    transport.close();
    server.close();
  }
  const { server, transport } = await backend('unused.sock', () => {});
  const small = { ...CONFIG, sizeBytes: 4096n };
  await t.rejects(log.replay(transport, small, PATIENCE_MS), { code: 'EINVAL', outcome: 'unfit' });
  const ended = log.replay(transport, CONFIG, PATIENCE_MS);
  transport.close();
  await t.rejects(ended, { code: 'ECANCELED', outcome: 'lost' }, 'close() ends a replay');
  server.close();
});

t.test('a damaged log is refused with the reason', async (t) => {
  const path = written('damaged');
  const file = openSync(path, 'r+');
  writeSync(file, Buffer.from('?'), 0, 1, 4096);
  closeSync(file);
  const message = /^the log of unflushed writes, .*damaged: it is damaged: an entry/;
  t.throws(() => UnflushedLog.open(path, 1, RING_BYTES), { code: 'EINVAL', message });
  t.throws(() => UnflushedLog.open(path, 2, RING_BYTES), { code: 'EINVAL', message: /1 queues/ });
});
