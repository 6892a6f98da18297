/**
 * Owns: structured replies to READ that are unusual, and those that are wrong: pieces, holes, gaps,
 * overlaps, lies about lengths and offsets.
 * Runs in: test processes.
 * Must not: send anything but chunks with the cookie of the request that was hit.
 */
import { type Connection, imageBytes, type Request } from './scripted-nbd-transmission.ts';
import {
  CHUNK,
  chunk,
  errorPayload,
  NBD_ERROR,
  REPLY_DONE,
  u32,
  u64,
} from './scripted-nbd-wire.ts';

export interface ReadFault {
  readonly name: string;
  readonly outcome: 'ok' | 'EIO' | 'EINVAL' | 'violation';
  readonly frames: (request: Request, connection: Connection) => Uint8Array;
}

/** Chunks for one request; offsets count from its start. */
class Reply {
  readonly #parts: Buffer[] = [];
  readonly #request: Request;
  readonly #data: Buffer;

  constructor(request: Request, connection: Connection) {
    this.#request = request;
    this.#data = imageBytes(connection, request);
  }

  /** Data of the image; `shift` moves the offset that the chunk names. */
  data(from: number, to: number, flags = 0, shift = 0n): this {
    const offset = this.#request.offset + BigInt(from) + shift;
    const payload = Buffer.concat([u64(offset), this.#data.subarray(from, to)]);
    return this.raw(flags, CHUNK.offsetData, payload);
  }

  hole(from: number, lengthBytes: number, flags = 0): this {
    const offset = this.#request.offset + BigInt(from);
    return this.raw(flags, CHUNK.offsetHole, Buffer.concat([u64(offset), u32(lengthBytes)]));
  }

  done(): this {
    return this.raw(REPLY_DONE, CHUNK.none, Buffer.alloc(0));
  }

  error(payload: Uint8Array, type: number = CHUNK.error, flags = REPLY_DONE): this {
    return this.raw(flags, type, payload);
  }

  raw(flags: number, type: number, payload: Uint8Array, lengthBytes = payload.length): this {
    this.#parts.push(chunk(flags, type, this.#request.cookie, payload, lengthBytes));
    return this;
  }

  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

type Build = (reply: Reply, lengthBytes: number, request: Request) => Reply;

function reads(outcome: ReadFault['outcome'], name: string, build: Build): ReadFault {
  const frames = (request: Request, connection: Connection) =>
    build(new Reply(request, connection), request.lengthBytes, request).bytes();
  return { name, outcome, frames };
}

const half = (lengthBytes: number) => lengthBytes >> 1;
const EIO = errorPayload(NBD_ERROR.EIO, 'disk on fire');

/** Unusual, but allowed: every byte of the answer is right. */
const allowed: readonly ReadFault[] = [
  reads('ok', 'read-in-two-chunks', (r, n) => r.data(0, half(n)).data(half(n), n, REPLY_DONE)),
  reads('ok', 'read-in-two-chunks-backwards', (r, n) => r.data(half(n), n).data(0, half(n)).done()),
  reads('ok', 'read-in-odd-chunks', (r, n) => r.data(0, 1).data(1, 300).data(300, n).done()),
  reads('ok', 'read-in-512-byte-chunks', (r, n) => {
    for (let at = 0; at < n; at += 512) r.data(at, Math.min(n, at + 512));
    return r.done();
  }),
];

const gaps: readonly ReadFault[] = [
  reads('EIO', 'done-without-any-data', (r) => r.done()),
  reads('EIO', 'done-with-the-end-missing', (r, n) => r.data(0, half(n)).done()),
  reads('EIO', 'done-with-the-start-missing', (r, n) => r.data(half(n), n, REPLY_DONE)),
  reads('EIO', 'done-with-a-byte-missing', (r, n) => r.data(0, 15).data(16, n).done()),
];

const overlaps: readonly ReadFault[] = [
  reads('violation', 'data-twice', (r, n) => r.data(0, n).data(0, n).done()),
  reads('violation', 'data-overlaps-by-a-byte', (r, n) => r.data(0, half(n)).data(half(n) - 1, n)),
  reads('violation', 'overlap-of-the-size-of-a-gap', (r, n) =>
    r.data(0, half(n)).data(0, half(n)).done(),
  ),
  reads('violation', 'hole-over-data', (r, n) => r.data(0, n).hole(0, n).done()),
  reads('violation', 'data-over-hole', (r, n) => r.hole(0, n).data(0, n).done()),
];

const bounds: readonly ReadFault[] = [
  reads('violation', 'data-before-the-request', (r, n) => r.data(0, n, REPLY_DONE, -512n)),
  reads('violation', 'data-after-the-request', (r, n) => r.data(0, n, REPLY_DONE, BigInt(n))),
  reads('violation', 'data-beyond-the-end-by-a-byte', (r, n) => r.data(0, n, REPLY_DONE, 1n)),
  reads('violation', 'data-at-a-negative-offset', (r, n) => r.data(0, n, REPLY_DONE, -(1n << 63n))),
  reads('violation', 'data-at-an-offset-that-wraps', (r, n, { offset }) =>
    r.data(0, n, REPLY_DONE, -offset - 1n),
  ),
  reads('violation', 'hole-before-the-request', (r, n) => r.hole(-512, n).done()),
  reads('violation', 'hole-beyond-the-end', (r, n) => r.hole(0, n + 1).done()),
  reads('violation', 'hole-of-4-gib', (r) => r.hole(0, 0xffffffff).done()),
  reads('violation', 'hole-of-0-bytes', (r, n) => r.hole(0, 0).data(0, n).done()),
];

const lengths: readonly ReadFault[] = [
  reads('violation', 'done-chunk-with-data', (r) => r.raw(REPLY_DONE, CHUNK.none, u32(0))),
  reads('violation', 'empty-chunk-that-is-not-done', (r) => r.raw(0, CHUNK.none, Buffer.alloc(0))),
  reads('violation', 'data-chunk-of-7-bytes', (r) => r.raw(1, CHUNK.offsetData, Buffer.alloc(7))),
  reads('violation', 'data-chunk-without-data', (r) => r.data(0, 0, REPLY_DONE)),
  reads('violation', 'data-chunk-says-4-gib', (r, _n, { offset }) =>
    r.raw(1, CHUNK.offsetData, u64(offset), 0xffffffff),
  ),
  reads('violation', 'data-chunk-says-64-mib', (r, _n, { offset }) =>
    r.raw(1, CHUNK.offsetData, u64(offset), 64 << 20),
  ),
  reads('violation', 'hole-chunk-of-11-bytes', (r) => r.raw(1, CHUNK.offsetHole, Buffer.alloc(11))),
  reads('violation', 'hole-chunk-of-13-bytes', (r) => r.raw(1, CHUNK.offsetHole, Buffer.alloc(13))),
  reads('violation', 'endless-empty-data-chunks', (r) => {
    for (let count = 0; count < 10_000; count += 1) r.data(0, 0);
    return r;
  }),
  reads('violation', 'endless-chunks-of-a-byte', (r, n) => {
    for (let at = 0; at < n; at += 1) r.data(at, at + 1);
    return r.done();
  }),
];

const types: readonly ReadFault[] = [
  reads('violation', 'chunk-of-unknown-type', (r) => r.raw(0, 0x4d, u32(0)).done()),
  reads('violation', 'block-status-to-a-read', (r) =>
    r.raw(REPLY_DONE, CHUNK.blockStatus, Buffer.concat([u32(1), u32(512), u32(0)])),
  ),
  reads('violation', 'chunk-after-done', (r, n) => r.data(0, n, REPLY_DONE).data(0, n)),
  reads('violation', 'done-twice', (r, n) => r.data(0, n, REPLY_DONE).done()),
];

const errors: readonly ReadFault[] = [
  reads('EIO', 'error-after-all-data', (r, n) => r.data(0, n).error(EIO)),
  reads('EIO', 'error-after-half-the-data', (r, n) => r.data(0, half(n)).error(EIO)),
  reads('EIO', 'error-before-the-data', (r, n) => r.error(EIO, CHUNK.error, 0).data(0, n, 1)),
  reads('EIO', 'error-then-done', (r) => r.error(EIO, CHUNK.error, 0).done()),
  reads('EIO', 'error-without-text', (r) => r.error(errorPayload(NBD_ERROR.EIO))),
  reads('EIO', 'error-with-control-characters', (r) =>
    r.error(errorPayload(NBD_ERROR.EIO, 'a\x1b[31m\n\0b')),
  ),
  reads('EIO', 'error-with-offset', (r, n, { offset }) =>
    r.error(errorPayload(NBD_ERROR.EIO, 'x', offset + BigInt(half(n))), CHUNK.errorOffset),
  ),
  reads('EIO', 'error-of-unknown-type', (r) => r.error(EIO, 0x8abc)),
  reads('EINVAL', 'error-with-unknown-number', (r) => r.error(errorPayload(54321))),
  reads('violation', 'error-with-number-0', (r) => r.error(errorPayload(0, 'fine'))),
  reads('violation', 'error-chunk-of-5-bytes', (r) => r.error(Buffer.alloc(5, 1))),
  reads('violation', 'error-text-longer-than-its-chunk', (r) =>
    r.error(Buffer.concat([u32(NBD_ERROR.EIO), Buffer.of(0xff, 0xff)])),
  ),
  reads('violation', 'error-chunk-says-4-gib', (r) => r.raw(1, CHUNK.error, EIO, 0xffffffff)),
  reads('violation', 'error-offset-without-offset', (r) => r.error(EIO, CHUNK.errorOffset)),
  reads('violation', 'error-offset-before-the-request', (r, _n, { offset }) =>
    r.error(errorPayload(NBD_ERROR.EIO, 'x', offset - 1n), CHUNK.errorOffset),
  ),
  reads('violation', 'error-offset-after-the-request', (r, n, { offset }) =>
    r.error(errorPayload(NBD_ERROR.EIO, 'x', offset + BigInt(n)), CHUNK.errorOffset),
  ),
];

export const readFaults: readonly ReadFault[] = [
  ...allowed,
  ...gaps,
  ...overlaps,
  ...bounds,
  ...lengths,
  ...types,
  ...errors,
];
