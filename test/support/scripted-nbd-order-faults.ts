/**
 * Owns: replies at the wrong time or in an unusual order: twice, too early, swapped, interleaved.
 * Runs in: test processes.
 * Must not: be trimmed to what happens to pass.
 */
import type { Peer } from './scripted-nbd-peer.ts';
import {
  type Connection,
  carryOut,
  correctReply,
  imageBytes,
  type Request,
} from './scripted-nbd-transmission.ts';
import { sends, type TransmissionFault } from './scripted-nbd-transmission-fault.ts';
import { CHUNK, chunk, NBD_ERROR, REPLY_DONE, simpleReply, u64 } from './scripted-nbd-wire.ts';

/** How long a reply waits for a second one to be swapped with. */
const PAIR_MS = 20;

/**
 * Keeps a request until another one comes on the same connection, then answers both with `join`.
 */
function inPairs(
  name: string,
  replies: TransmissionFault['replies'],
  join: (connection: Connection, first: Request, second: Request) => Buffer,
): TransmissionFault {
  const waiting = new WeakMap<
    Peer,
    { readonly request: Request; readonly timer: NodeJS.Timeout }
  >();
  const play: TransmissionFault['play'] = async (connection, request) => {
    const { peer } = connection;
    const first = waiting.get(peer);
    if (first === undefined) {
      const timer = setTimeout(() => {
        waiting.delete(peer);
        peer.write(correctReply(connection, request)).catch(() => undefined);
      }, PAIR_MS);
      waiting.set(peer, { request, timer });
      return true;
    }
    clearTimeout(first.timer);
    waiting.delete(peer);
    await peer.write(join(connection, first.request, request));
    return true;
  };
  return { name, replies, command: 'read', outcomes: ['ok'], play };
}

/** The two halves of a read as chunks of their own. */
function halves(connection: Connection, request: Request): readonly [Buffer, Buffer] {
  carryOut(connection, request);
  const data = imageBytes(connection, request);
  const middle = data.length >> 1;
  const part = (flags: number, from: number, to: number) =>
    chunk(
      flags,
      CHUNK.offsetData,
      request.cookie,
      Buffer.concat([u64(request.offset + BigInt(from)), data.subarray(from, to)]),
    );
  return [part(0, 0, middle), part(REPLY_DONE, middle, data.length)];
}

const pairFaults: readonly TransmissionFault[] = [
  ...(['simple', 'structured'] as const).map((replies) =>
    inPairs(`${replies}-replies-out-of-order`, replies, (connection, first, second) =>
      Buffer.concat([correctReply(connection, second), correctReply(connection, first)]),
    ),
  ),
  inPairs('chunks-of-two-reads-interleaved', 'structured', (connection, first, second) => {
    const [firstA, firstB] = halves(connection, first);
    const [secondA, secondB] = halves(connection, second);
    return Buffer.concat([secondA, firstA, secondB, firstB]);
  }),
];

export const orderFaults: readonly TransmissionFault[] = [
  ...pairFaults,
  ...(['simple', 'structured'] as const).map((replies) =>
    sends(`${replies}-reply-twice`, replies, 'read', 'violation', (request, connection) => {
      const reply = correctReply(connection, request);
      return Buffer.concat([reply, reply]);
    }),
  ),
  ...(['write', 'flush'] as const).flatMap((command) =>
    (['simple', 'structured'] as const).map((replies) =>
      sends(
        `${command}-answered-twice-among-${replies}-replies`,
        replies,
        command,
        'violation',
        (request, connection) =>
          Buffer.concat([correctReply(connection, request), simpleReply(request.cookie, 0)]),
      ),
    ),
  ),
  {
    name: 'write-answered-before-its-payload-was-read',
    replies: 'simple',
    command: 'write',
    outcomes: ['ok', 'violation'],
    takesPayload: true,
    play: async (connection, request) => {
      await connection.peer.write(simpleReply(request.cookie, 0));
      request.payload = await connection.peer.read(request.lengthBytes);
      carryOut(connection, request);
      return true;
    },
  },
  {
    name: 'write-fails-before-its-payload-was-read',
    replies: 'simple',
    command: 'write',
    outcomes: ['ENOSPC', 'violation'],
    takesPayload: true,
    play: async ({ peer }, request) => {
      await peer.write(simpleReply(request.cookie, NBD_ERROR.ENOSPC));
      await peer.read(request.lengthBytes);
      return true;
    },
  },
];
