/**
 * Owns: error replies, which are correct and must fail their request alone, and content where none
 * belongs.
 * Runs in: test processes.
 * Must not: be trimmed to what happens to pass.
 */
import { carryOut, errorReply } from './scripted-nbd-transmission.ts';
import { type Outcome, sends, type TransmissionFault } from './scripted-nbd-transmission-fault.ts';
import {
  CHUNK,
  chunk,
  errorPayload,
  NBD_ERROR,
  REPLY_DONE,
  simpleReply,
  u32,
  u64,
} from './scripted-nbd-wire.ts';

const CHANGING = ['write', 'trim', 'writeZeroes'] as const;

const ERRORS: readonly (readonly [number, Outcome])[] = [
  [NBD_ERROR.EPERM, 'EPERM'],
  [NBD_ERROR.EIO, 'EIO'],
  [NBD_ERROR.ENOMEM, 'ENOMEM'],
  [NBD_ERROR.EINVAL, 'EINVAL'],
  [NBD_ERROR.ENOSPC, 'ENOSPC'],
  [NBD_ERROR.EOVERFLOW, 'EINVAL'],
  [NBD_ERROR.ENOTSUP, 'ENOTSUP'],
  [NBD_ERROR.ESHUTDOWN, 'lost'],
  [12345, 'EINVAL'],
  [0xffffffff, 'EINVAL'],
];

/** Error replies are correct; each must fail its request alone and leave the stream in step. */
export const errorFaults: readonly TransmissionFault[] = [
  ...ERRORS.flatMap(([error, outcome]) =>
    (['simple', 'structured'] as const).map((replies) =>
      sends(
        `${replies}-read-fails-with-${error}`,
        replies,
        'read',
        outcome,
        (request, connection) => errorReply(connection, request, error),
      ),
    ),
  ),
  ...([...CHANGING, 'flush'] as const).flatMap((command) =>
    (['simple', 'structured'] as const).map((replies) =>
      sends(`${command}-fails-among-${replies}-replies`, replies, command, 'EIO', ({ cookie }) =>
        simpleReply(cookie, NBD_ERROR.EIO),
      ),
    ),
  ),
  sends('write-fails-in-a-chunk', 'structured', 'write', 'ENOSPC', ({ cookie }) =>
    chunk(REPLY_DONE, CHUNK.error, cookie, errorPayload(NBD_ERROR.ENOSPC, 'full')),
  ),
  sends(
    'flush-answered-with-an-empty-chunk',
    'structured',
    'flush',
    'ok',
    (request, connection) => {
      carryOut(connection, request);
      return chunk(REPLY_DONE, CHUNK.none, request.cookie);
    },
  ),
];

export const contentFaults: readonly TransmissionFault[] = (
  [...CHANGING, 'flush'] as const
).flatMap((command) => [
  sends(`${command}-answered-with-data`, 'structured', command, 'violation', (request) =>
    chunk(1, CHUNK.offsetData, request.cookie, Buffer.concat([u64(request.offset), u32(1)])),
  ),
  sends(`${command}-answered-with-a-hole`, 'structured', command, 'violation', (request) =>
    chunk(1, CHUNK.offsetHole, request.cookie, Buffer.concat([u64(request.offset), u32(512)])),
  ),
]);
