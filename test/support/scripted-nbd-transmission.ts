/**
 * Owns: the transmission phase of a correct backend over an image in memory, and the moment at
 * which a fault takes one request over.
 * Runs in: test processes.
 * Must not: misbehave; misbehaviour lives in the tables of faults.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { BackendSettings, Counters } from './scripted-nbd-backend.ts';
import type { ForgetfulDisk } from './scripted-nbd-disk.ts';
import type { Peer } from './scripted-nbd-peer.ts';
import {
  CHUNK,
  CMD,
  CMD_FLAG,
  chunk,
  errorPayload,
  FLAG,
  MAGIC,
  NBD_ERROR,
  REPLY_DONE,
  simpleReply,
  u32,
  u64,
} from './scripted-nbd-wire.ts';

export interface Request {
  readonly flags: number;
  readonly command: number;
  readonly cookie: bigint;
  readonly offset: bigint;
  readonly lengthBytes: number;
  /** Of a WRITE; empty until `payload` was read. */
  payload: Buffer;
}

/** One connection in the transmission phase. */
export interface Connection {
  readonly peer: Peer;
  readonly settings: BackendSettings;
  readonly structured: boolean;
  readonly image: Buffer;
  readonly counters: Counters;
  readonly delayMs: number;
  /** Under the image, where it is one that forgets. */
  readonly disk: ForgetfulDisk | undefined;
}

/** Plays a request in its own way. False: it wants the correct answer after all. */
export type Misbehaviour = (connection: Connection, request: Request) => Promise<boolean>;

export interface FaultHook {
  /** Whether the fault wants this request; asked before the payload of a WRITE is read. */
  readonly wants: (request: Request) => boolean;
  readonly play: Misbehaviour;
  /** The fault reads the payload of a WRITE itself, or does not. */
  readonly takesPayload: boolean;
}

/** Ends with NBD_CMD_DISC; throws PeerGone when the client just goes. */
export async function serve(connection: Connection, fault?: FaultHook): Promise<void> {
  const { peer, counters, delayMs } = connection;
  for (;;) {
    const request = await readRequest(peer);
    if (request.command === CMD.disc) {
      counters.disconnects += 1;
      return;
    }
    const wanted = fault?.wants(request) ?? false;
    if (request.command === CMD.write && !(wanted && fault?.takesPayload)) {
      request.payload = await peer.read(request.lengthBytes);
    }
    const answer = async () => {
      if (delayMs > 0) await sleep(delayMs);
      if (wanted && fault !== undefined) {
        counters.faults += 1;
        if (await fault.play(connection, request)) return;
      }
      await peer.write(correctReply(connection, request));
    };
    // With a delay requests overlap, as in a backend that works on several at once.
    if (delayMs > 0) answer().catch(() => undefined);
    else await answer();
  }
}

export async function readRequest(peer: Peer): Promise<Request> {
  const header = await peer.read(28);
  if (header.readUInt32BE(0) !== MAGIC.request) throw new Error('a request without its magic');
  return {
    flags: header.readUInt16BE(4),
    command: header.readUInt16BE(6),
    cookie: header.readBigUInt64BE(8),
    offset: header.readBigUInt64BE(16),
    lengthBytes: header.readUInt32BE(24),
    payload: Buffer.alloc(0),
  };
}

/** Carries the request out and makes its reply. */
export function correctReply(connection: Connection, request: Request): Buffer {
  const error = refusal(connection, request);
  if (error !== 0) return errorReply(connection, request, error);
  carryOut(connection, request);
  if (request.command === CMD.read) return readReply(connection, request);
  return simpleReply(request.cookie, 0);
}

/** Zeroes at the end of what is read are sent as a hole, as many backends do. */
export function readReply(connection: Connection, request: Request): Buffer {
  const { cookie, offset } = request;
  const data = imageBytes(connection, request);
  if (!connection.structured) return simpleReply(cookie, 0, data);
  const dataBytes = withoutZeroTail(data);
  const content = Buffer.concat([u64(offset), data.subarray(0, dataBytes)]);
  if (dataBytes === data.length) return chunk(REPLY_DONE, CHUNK.offsetData, cookie, content);
  const hole = Buffer.concat([u64(offset + BigInt(dataBytes)), u32(data.length - dataBytes)]);
  const parts = dataBytes === 0 ? [] : [chunk(0, CHUNK.offsetData, cookie, content)];
  return Buffer.concat([...parts, chunk(REPLY_DONE, CHUNK.offsetHole, cookie, hole)]);
}

const ZEROES = Buffer.alloc(512);

/** Length without the 512-byte blocks of zeroes at the end. */
function withoutZeroTail(data: Buffer): number {
  let end = data.length;
  while (end >= 512 && data.subarray(end - 512, end).equals(ZEROES)) end -= 512;
  return end;
}

/** An error in the style that the connection uses for this command. */
export function errorReply(connection: Connection, request: Request, error: number): Buffer {
  if (!connection.structured || request.command !== CMD.read) {
    return simpleReply(request.cookie, error);
  }
  return chunk(REPLY_DONE, CHUNK.error, request.cookie, errorPayload(error, 'scripted'));
}

export function imageBytes({ image }: Connection, request: Request): Buffer {
  const start = Number(request.offset);
  return image.subarray(start, start + request.lengthBytes);
}

/** What a client may not send: 0, or the error that a strict backend answers. */
function refusal({ settings, image }: Connection, request: Request): number {
  const { command, flags, offset, lengthBytes } = request;
  const has = (flag: number) => (settings.transmissionFlags & flag) !== 0;
  if (command === CMD.flush) {
    return has(FLAG.flush) && offset === 0n && lengthBytes === 0 ? 0 : NBD_ERROR.EINVAL;
  }
  const needed: Readonly<Record<number, number>> = {
    [CMD.read]: FLAG.hasFlags,
    [CMD.write]: FLAG.hasFlags,
    [CMD.trim]: FLAG.trim,
    [CMD.writeZeroes]: FLAG.writeZeroes,
  };
  const flag = needed[command];
  if (flag === undefined || !has(flag)) return NBD_ERROR.EINVAL;
  if (command !== CMD.read && has(FLAG.readOnly)) return NBD_ERROR.EPERM;
  if ((flags & CMD_FLAG.fua) !== 0 && !has(FLAG.fua)) return NBD_ERROR.EINVAL;
  const [minimum, , maximum] = settings.blockBytes ?? [512, 4096, 32 << 20];
  const payload = command === CMD.read || command === CMD.write;
  if (lengthBytes === 0 || lengthBytes % minimum !== 0) return NBD_ERROR.EINVAL;
  if (offset % BigInt(minimum) !== 0n) return NBD_ERROR.EINVAL;
  if (payload && lengthBytes > maximum) return NBD_ERROR.EINVAL;
  const beyond = offset + BigInt(lengthBytes) > BigInt(image.length);
  if (beyond) return command === CMD.read ? NBD_ERROR.EINVAL : NBD_ERROR.ENOSPC;
  return 0;
}

/** The effect on image, disk and counters. */
export function carryOut({ image, counters, disk }: Connection, request: Request): void {
  const start = Number(request.offset);
  const end = start + request.lengthBytes;
  if ((request.flags & CMD_FLAG.fua) !== 0) counters.fua += 1;
  if (request.command === CMD.read) {
    counters.reads += 1;
    counters.readBytes += request.lengthBytes;
  } else if (request.command === CMD.write) {
    counters.writes += 1;
    counters.writeBytes += request.lengthBytes;
    request.payload.copy(image, start);
  } else if (request.command === CMD.flush) {
    counters.flushes += 1;
  } else if (request.command === CMD.trim) {
    counters.trims += 1;
    image.fill(0, start, end);
  } else {
    counters.writeZeroes += 1;
    image.fill(0, start, end);
  }
  disk?.carriedOut(request);
}
