/**
 * Owns: every misbehaviour in the transmission phase that the suite plays, each with what may come
 * of it. The lines are those of the hardening checklist for NBD clients.
 * Runs in: test processes.
 * Must not: be trimmed to what happens to pass.
 */
import { contentFaults, errorFaults } from './scripted-nbd-error-faults.ts';
import { orderFaults } from './scripted-nbd-order-faults.ts';
import { readFaults } from './scripted-nbd-read-faults.ts';
import { correctReply } from './scripted-nbd-transmission.ts';
import { breaksOff, sends, type TransmissionFault } from './scripted-nbd-transmission-fault.ts';
import {
  CHUNK,
  CMD,
  chunk,
  MAGIC,
  REPLY_DONE,
  simpleReply,
  u32,
  u64,
} from './scripted-nbd-wire.ts';

export type { Outcome, TransmissionFault } from './scripted-nbd-transmission-fault.ts';

const enterFaults: readonly TransmissionFault[] = [
  sends('bytes-after-the-handshake', 'simple', 'enter', 'violation', () => Buffer.alloc(124)),
  ...(['simple', 'structured'] as const).map((replies) =>
    sends(`${replies}-reply-before-any-request`, replies, 'enter', 'violation', () =>
      simpleReply(0n, 0),
    ),
  ),
  sends('chunk-before-any-request', 'structured', 'enter', 'violation', () =>
    chunk(REPLY_DONE, CHUNK.none, 0n),
  ),
];

const magicFaults: readonly TransmissionFault[] = [
  sends('reply-with-wrong-magic', 'simple', 'read', 'violation', ({ cookie }) =>
    Buffer.concat([u32(MAGIC.request), u32(0), u64(cookie)]),
  ),
  sends('chunk-with-wrong-magic', 'structured', 'read', 'violation', ({ cookie }) =>
    Buffer.concat([u32(0), u32(0), u64(cookie), u32(0)]),
  ),
  sends('structured-reply-not-negotiated', 'simple', 'read', 'violation', (request, { image }) => {
    const start = Number(request.offset);
    const data = image.subarray(start, start + request.lengthBytes);
    return chunk(1, CHUNK.offsetData, request.cookie, Buffer.concat([u64(request.offset), data]));
  }),
  sends('structured-write-reply-not-negotiated', 'simple', 'write', 'violation', ({ cookie }) =>
    chunk(REPLY_DONE, CHUNK.none, cookie),
  ),
  sends('simple-reply-to-a-structured-read', 'structured', 'read', 'violation', (request) =>
    simpleReply(request.cookie, 0, Buffer.alloc(request.lengthBytes, 0x4d)),
  ),
  sends('extended-reply-not-negotiated', 'structured', 'read', 'violation', ({ cookie }) =>
    Buffer.concat([u32(MAGIC.extendedReply), u32(1), u64(cookie), Buffer.alloc(16)]),
  ),
];

const cookieFaults: readonly TransmissionFault[] = [0n, 16n, 32n, 48n, 63n].flatMap((bit) =>
  (['simple', 'structured'] as const).map((replies) =>
    sends(
      `${replies}-reply-with-cookie-bit-${bit}-flipped`,
      replies,
      'read',
      'violation',
      (request, connection) =>
        correctReply(connection, { ...request, cookie: request.cookie ^ (1n << bit) }),
    ),
  ),
);

const middle = (reply: Buffer) => reply.subarray(0, reply.length >> 1);

const breakFaults: readonly TransmissionFault[] = (['simple', 'structured'] as const).flatMap(
  (replies) => [
    breaksOff(`${replies}-closes-instead-of-a-reply`, replies, 'lost', (reply) =>
      reply.subarray(0, 0),
    ),
    breaksOff(`${replies}-closes-in-a-header`, replies, 'lost', (reply) => reply.subarray(0, 7)),
    breaksOff(`${replies}-closes-in-the-data`, replies, 'lost', middle),
    breaksOff(`${replies}-hangs-instead-of-a-reply`, replies, 'stalls', (reply) =>
      reply.subarray(0, 0),
    ),
    breaksOff(`${replies}-hangs-in-a-header`, replies, 'stalls', (reply) => reply.subarray(0, 7)),
    breaksOff(`${replies}-hangs-in-the-data`, replies, 'stalls', middle),
  ],
);

const slowFault: TransmissionFault = {
  name: 'drips-its-reply',
  replies: 'simple',
  command: 'read',
  outcomes: ['stalls'],
  play: async (connection, request) => {
    await connection.peer.drip(correctReply(connection, request), 1000);
    return true;
  },
};

/** By name; each hits the requests of `command` that a server was told to hit. */
export const transmissionFaults: readonly TransmissionFault[] = [
  ...enterFaults,
  ...magicFaults,
  ...cookieFaults,
  ...orderFaults,
  ...errorFaults,
  ...contentFaults,
  ...breakFaults,
  slowFault,
  ...readFaults.map(({ name, outcome, frames }) =>
    sends(name, 'structured', 'read', outcome, frames),
  ),
];

/** NBD_CMD number of a fault's command. */
export function commandNumber(command: TransmissionFault['command']): number | undefined {
  return command === 'enter' ? undefined : CMD[command];
}
