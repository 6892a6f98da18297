/**
 * Goal: no sequence of bytes, and no end after any byte of a correct one, makes the handshake hang,
 * crash, read without bound or fail with anything but an error about the backend or the export.
 * Method: recorded replies of correct backends, cut after each byte, and mutated at random from a
 * printed seed (UBLK_NBD_SEED sets it), for about two seconds; half of the streams end after the
 * bytes, half go silent.
 */
import t from 'tap';
import { GatewayError } from '../../src/protocols/errors.ts';
import { exportInfo, negotiate } from '../../src/protocols/nbd/handshake.ts';
import { randomFrom } from '../support/random.ts';
import { ALL_FLAGS, DEFAULT_SETTINGS, goReplies } from '../support/scripted-nbd-backend.ts';
import { Peer } from '../support/scripted-nbd-peer.ts';
import { duplexPair, TestStream } from '../support/scripted-nbd-stream.ts';
import {
  INFO,
  infoText,
  listEntry,
  MAGIC,
  OPT,
  optionReply,
  REP,
  u16,
  u32,
  u64,
} from '../support/scripted-nbd-wire.ts';

const RUN_MS = 2000;
/** However long they take, on a machine that stands still meanwhile. */
const LEAST_RUNS = 500;

const GO_DATA = Buffer.concat([u32(0), u16(3), u16(INFO.blockSize), u16(INFO.name), u16(2)]);
const GREETING = [u64(MAGIC.nbd), u64(MAGIC.newstyle), u16(3)];
const STRUCTURED = optionReply(OPT.structuredReply, REP.ack);
const LIST = [
  optionReply(OPT.list, REP.server, listEntry('one', 'first')),
  optionReply(OPT.list, REP.server, listEntry('two')),
  optionReply(OPT.list, REP.ack),
];
const go = (option: number) =>
  goReplies({ ...DEFAULT_SETTINGS, description: 'a disk' }, { option, data: GO_DATA });

/** Who speaks to the backend: a connect, one that asks for structured replies, an info. */
type Client = 'simple' | 'structured' | 'info';
const CLIENTS: readonly Client[] = ['simple', 'structured', 'info'];

interface Conversation {
  readonly client: Client;
  /** Parts can be dropped, doubled and swapped. */
  readonly parts: readonly Buffer[];
  /** Parts at the end that the client does not wait for. */
  readonly unneeded?: number;
}

/** Correct ones, the backend's side of each. */
const CORPUS: readonly Conversation[] = [
  { client: 'simple', parts: [...GREETING, go(OPT.go)] },
  { client: 'structured', parts: [...GREETING, STRUCTURED, go(OPT.go)] },
  {
    client: 'info',
    parts: [...GREETING, STRUCTURED, ...LIST, go(OPT.info), optionReply(OPT.abort, REP.ack)],
    unneeded: 1,
  },
  {
    client: 'structured',
    parts: [
      ...GREETING,
      optionReply(OPT.structuredReply, REP.unsup, 'unknown'),
      optionReply(OPT.go, REP.unsup),
      ...LIST,
      u64(4n << 20n),
      u16(ALL_FLAGS),
    ],
  },
  {
    client: 'simple',
    parts: [
      ...GREETING,
      optionReply(OPT.go, REP.info, infoText(INFO.name, 'x')),
      optionReply(OPT.go, REP.unknown, 'no such export'),
      ...LIST,
    ],
  },
  {
    client: 'simple',
    parts: [
      ...[u64(MAGIC.nbd), u64(MAGIC.newstyle), u16(0)],
      ...[u64(4n << 20n), u16(ALL_FLAGS), Buffer.alloc(124)],
    ],
  },
];

const NUMBERS = [
  0, 1, 2, 11, 12, 13, 14, 255, 4096, 65535, 65536, 0x7fffffff, 0x80000006, 0xffffffff,
];

function mutate(random: (below: number) => number): Buffer {
  const parts = [...(CORPUS[random(CORPUS.length)]?.parts ?? [])];
  const at = random(parts.length);
  const partChange = random(8);
  if (partChange === 0) parts.splice(at, 1);
  if (partChange === 1) parts.splice(at, 0, parts[random(parts.length)] ?? Buffer.alloc(0));
  if (partChange === 2) parts.splice(at, 0, ...Array(random(300)).fill(parts[at]));
  let bytes = Buffer.concat(parts);
  for (let changes = random(4); changes > 0 && bytes.length > 4; changes -= 1) {
    const offset = random(bytes.length - 4);
    const kind = random(4);
    if (kind === 0) bytes.writeUInt8(random(256), offset);
    if (kind === 1) bytes.writeUInt32BE(NUMBERS[random(NUMBERS.length)] ?? 0, offset);
    if (kind === 2) bytes = bytes.subarray(0, offset);
    if (kind === 3) bytes = Buffer.concat([bytes.subarray(0, offset), bytes.subarray(offset + 1)]);
  }
  return bytes;
}

const ALLOWED = /^UNBD_(BACKEND_(TIMEOUT|CLOSED|PROTOCOL|OLDSTYLE|TLS_REQUIRED)|EXPORT_)/;

/** EXPORT_NAME is refused by hanging up. */
const CUT = /^UNBD_(BACKEND_CLOSED|EXPORT_UNKNOWN)$/;

async function play(bytes: Buffer, silent: boolean, client: Client): Promise<string> {
  const [near, far] = duplexPair();
  const peer = new Peer(far);
  const stream = new TestStream(near);
  const run = client === 'info' ? exportInfo : negotiate;
  const structuredReplies = client === 'structured';
  const timeoutMs = silent ? 20 : 60_000;
  const attempt = run(stream, { exportName: '', timeoutMs, structuredReplies }).then(
    () => 'works',
    (error) => (error instanceof GatewayError ? error.code : `thrown: ${error}`),
  );
  await peer.write(bytes).catch(() => undefined);
  if (!silent) peer.close();
  const result = await attempt;
  stream.close();
  return stream.largestRecvBytes <= 4100 ? result : `read ${stream.largestRecvBytes} bytes at once`;
}

t.test(
  'a handshake that is cut after any byte is told, and never taken for a whole one',
  async (t) => {
    for (const [index, { parts, client, unneeded = 0 }] of CORPUS.entries()) {
      const whole = Buffer.concat(parts.slice(0, parts.length - unneeded));
      const others: string[] = [];
      for (let length = 0; length < whole.length; length += 1) {
        const result = await play(whole.subarray(0, length), false, client);
        if (!CUT.test(result)) others.push(`${result} after ${length} bytes`);
      }
      t.same(others, [], `conversation ${index}`);
    }
  },
);

t.test('mutated handshakes end with a device or a clear error', async (t) => {
  const seed = Number(process.env.UBLK_NBD_SEED ?? Date.now() % 0xffffffff);
  t.comment(`UBLK_NBD_SEED=${seed}`);
  const random = randomFrom(seed);
  const results = new Map<string, number>();
  const endMs = performance.now() + RUN_MS;
  let runs = 0;
  while (performance.now() < endMs || runs < LEAST_RUNS) {
    const bytes = mutate(random);
    const client = CLIENTS[random(CLIENTS.length)] ?? 'simple';
    const result = await play(bytes, random(50) === 0, client);
    runs += 1;
    results.set(result, (results.get(result) ?? 0) + 1);
    if (result !== 'works' && !ALLOWED.test(result)) {
      t.fail(`run ${runs}: ${result}`, { bytes: bytes.toString('hex').slice(0, 2000) });
    }
  }
  t.comment(`${runs} runs: ${JSON.stringify(Object.fromEntries(results))}`);
  t.ok(results.size > 3, 'the mutations reach several ends');
});
