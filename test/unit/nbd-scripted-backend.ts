/**
 * Goal: the scripted backend that other tests lean on is a correct backend unless it is told not to
 * be, counts what it does, and plays every fault that it lists to the request that is to be hit.
 * Method: the product's handshake over a real socket, then requests by hand.
 */
import { strict as assert } from 'node:assert';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { negotiate } from '../../src/protocols/nbd/handshake.ts';
import { parseTarget } from '../../src/protocols/target.ts';
import {
  handshakeFaults,
  listFaults,
  type ScriptedOptions,
  startScriptedNbd,
  type TransmissionFault,
  transmissionFaults,
} from '../support/scripted-nbd.ts';
import { dialForTests, type TestStream } from '../support/scripted-nbd-stream.ts';
import {
  CHUNK,
  CMD,
  CMD_FLAG,
  MAGIC,
  NBD_ERROR,
  REPLY_DONE,
  u16,
  u32,
  u64,
} from '../support/scripted-nbd-wire.ts';

// Hundreds of connections; a busy machine needs longer than the default.
t.setTimeout(120_000);

async function start(options: ScriptedOptions = {}, structuredReplies = true) {
  const backend = await startScriptedNbd(options);
  const connect = async () => {
    const target = parseTarget(backend.target);
    assert(target.kind === 'nbd');
    const stream = await dialForTests(target.endpoint);
    const asked = { exportName: '', timeoutMs: 60_000, structuredReplies };
    const found = await negotiate(stream, asked);
    stream.setDeadline(60_000);
    return { stream, found };
  };
  return { backend, connect };
}

let cookie = 0n;

async function request(
  stream: TestStream,
  command: number,
  offset: bigint,
  lengthBytes: number,
  flags = 0,
  payload: Buffer = Buffer.alloc(0),
): Promise<bigint> {
  cookie += 1n;
  const header = [u32(MAGIC.request), u16(flags), u16(command), u64(cookie), u64(offset)];
  await stream.send(Buffer.concat([...header, u32(lengthBytes), payload]));
  return cookie;
}

/** A simple reply without data: its error. */
async function simple(stream: TestStream, expected: bigint): Promise<number> {
  const header = await stream.recv(16);
  assert.equal(header.readUInt32BE(0), MAGIC.simpleReply);
  assert.equal(header.readBigUInt64BE(8), expected);
  return header.readUInt32BE(4);
}

/** One chunk of a structured reply. */
async function nextChunk(stream: TestStream) {
  const header = await stream.recv(20);
  assert.equal(header.readUInt32BE(0), MAGIC.structuredReply);
  const lengthBytes = header.readUInt32BE(16);
  return {
    done: (header.readUInt16BE(4) & REPLY_DONE) !== 0,
    type: header.readUInt16BE(6),
    cookie: header.readBigUInt64BE(8),
    payload: lengthBytes === 0 ? Buffer.alloc(0) : await stream.recv(lengthBytes),
  };
}

t.test('a correct backend does and counts what it is asked', async (t) => {
  // A test folder below the package can be too deep for the path of a socket.
  const folder = mkdtempSync(join(tmpdir(), 'ublk-nbd-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  for (const options of [{}, { socketPath: join(folder, 's') }, { pieceBytes: 1 }]) {
    const { backend, connect } = await start(options);
    const { stream } = await connect();
    const data = Buffer.alloc(1024, 0x4d);
    const write = await request(stream, CMD.write, 512n, 1024, CMD_FLAG.fua, data);
    t.equal(await simple(stream, write), 0);
    const flush = await request(stream, CMD.flush, 0n, 0);
    t.equal(await simple(stream, flush), 0);
    const trim = await request(stream, CMD.trim, 1024n, 512);
    t.equal(await simple(stream, trim), 0);
    const zeroes = await request(stream, CMD.writeZeroes, 8192n, 512);
    t.equal(await simple(stream, zeroes), 0);
    await request(stream, CMD.read, 512n, 1024);
    const first = await nextChunk(stream);
    t.same(first.payload, Buffer.concat([u64(512n), data.subarray(0, 512)]));
    const second = await nextChunk(stream);
    t.equal(second.type, CHUNK.offsetHole);
    t.ok(second.done && !first.done);
    const beyond = await request(stream, CMD.write, (4n << 20n) - 512n, 1024, 0, data);
    t.equal(await simple(stream, beyond), NBD_ERROR.ENOSPC);
    await request(stream, CMD.disc, 0n, 0);
    await t.rejects(stream.recv(1), { code: 'UNBD_BACKEND_CLOSED' });
    t.match(backend.counters, {
      connections: 1,
      structuredReplies: 1,
      reads: 1,
      readBytes: 1024,
      writes: 1,
      writeBytes: 1024,
      flushes: 1,
      fua: 1,
      trims: 1,
      writeZeroes: 1,
      disconnects: 1,
      faults: 0,
    });
    t.same(backend.clientErrors, []);
    await backend.close();
  }
});

t.test('the image tells offsets apart, and simple replies carry it', async (t) => {
  for (const [settings, isAsked] of [
    [{ structuredReplies: false }, true],
    [{}, false],
  ] as const) {
    const { backend, connect } = await start({ settings }, isAsked);
    const { stream, found } = await connect();
    t.equal(found.structuredReplies, false);
    t.equal(backend.counters.structuredReplies, Number(isAsked));
    const read = await request(stream, CMD.read, 4096n, 16);
    t.equal(await simple(stream, read), 0);
    t.same(await stream.recv(16), Buffer.concat([u64(4096n), u64(4104n)]));
    await backend.close();
  }
});

t.test('clients over the limit are hung up on', async (t) => {
  const { backend, connect } = await start({ maxClients: 1 });
  const { stream } = await connect();
  await t.rejects(connect(), { code: 'UNBD_BACKEND_CLOSED' });
  stream.close();
  await backend.close();
});

t.test('the second connection can reach another export', async (t) => {
  const settingsOf = (connection: number) => (connection === 1 ? { sizeBytes: 1n << 20n } : {});
  const { backend, connect } = await start({ settingsOf });
  t.equal((await connect()).found.info.sizeBytes, 4n << 20n);
  t.equal((await connect()).found.info.sizeBytes, 1n << 20n);
  await backend.close();
});

t.test('fault names are unique and an unknown one is refused', async (t) => {
  const names = [...handshakeFaults, ...listFaults, ...transmissionFaults].map(({ name }) => name);
  t.equal(new Set(names).size, names.length);
  await t.rejects(startScriptedNbd({ fault: 'none' }), /no fault called none/);
});

const LENGTH = 4096;

async function playOnce(fault: TransmissionFault): Promise<readonly string[]> {
  const { name, command, replies } = fault;
  const options = { fault: name, settings: { sizeBytes: 2n << 20n } };
  const { backend, connect } = await start(options, replies === 'structured');
  const { stream } = await connect();
  const number = command === 'enter' ? CMD.read : CMD[command];
  const payload = Buffer.alloc(number === CMD.write ? LENGTH : 0);
  const send = (offset: bigint) =>
    number === CMD.flush
      ? request(stream, number, 0n, 0)
      : request(stream, number, offset, LENGTH, 0, payload);
  if (number !== CMD.flush) await send(0n);
  await send(1n << 20n);
  for (let turns = 0; turns < 5000 && backend.counters.faults === 0; turns += 1) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  stream.close();
  await backend.close();
  const times = backend.counters.faults;
  return times === 1 ? backend.clientErrors : [`was played ${times} times`];
}

t.test('every transmission fault hits its request, and only in its range', async (t) => {
  for (const fault of transmissionFaults) t.same(await playOnce(fault), [], fault.name);
});
