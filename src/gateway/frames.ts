/**
 * Owns: the frames of the RPC: 4 bytes of length (big endian) and one msgpack value.
 * Runs in: the CLI, the controller and server processes; no I/O of its own.
 * Must not: keep or decode more than one bounded frame; a decoder is one connection's.
 */
// Not the package's main entry: it loads a native decoder, half of the start of a process.
import { Packr } from 'msgpackr/pack';
import { Unpackr } from 'msgpackr/unpack';
import { GatewayError } from '../protocols/errors.ts';

export const MAXIMUM_FRAME_BYTES = 1024 * 1024;
const HEADER_BYTES = 4;

const packr = new Packr({ useRecords: false });

/** Throws UNBD_INTERNAL when the message is larger than a frame may be. */
export function encodeFrame(message: unknown): Buffer {
  const body = packr.pack(message);
  if (body.length > MAXIMUM_FRAME_BYTES) {
    throw new GatewayError('UNBD_INTERNAL', `a message of ${body.length} bytes is too large`);
  }
  const frame = Buffer.allocUnsafe(HEADER_BYTES + body.length);
  frame.writeUInt32BE(body.length, 0);
  body.copy(frame, HEADER_BYTES);
  return frame;
}

/** Cuts a byte stream into messages. After it threw, the connection is to be closed. */
export class FrameDecoder {
  readonly #unpackr = new Unpackr({ useRecords: false });
  #chunks: Buffer[] = [];
  #buffered = 0;

  /** The messages that `chunk` completes. Throws UNBD_CONTROLLER on a frame that is no message. */
  push(chunk: Buffer): unknown[] {
    this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    const messages: unknown[] = [];
    for (;;) {
      const length = this.#frameLength();
      if (length === undefined || this.#buffered < HEADER_BYTES + length) return messages;
      const joined = this.#join();
      const end = HEADER_BYTES + length;
      messages.push(this.#decode(joined.subarray(HEADER_BYTES, end)));
      this.#chunks = end < joined.length ? [joined.subarray(end)] : [];
      this.#buffered = joined.length - end;
    }
  }

  #frameLength(): number | undefined {
    if (this.#buffered < HEADER_BYTES) return undefined;
    const first = this.#chunks[0];
    const head = first !== undefined && first.length >= HEADER_BYTES ? first : this.#join();
    const length = head.readUInt32BE(0);
    if (length === 0 || length > MAXIMUM_FRAME_BYTES) {
      throw new GatewayError('UNBD_CONTROLLER', `a frame of ${length} bytes came in`);
    }
    return length;
  }

  #join(): Buffer {
    const only = this.#chunks.length === 1 ? this.#chunks[0] : undefined;
    const joined = only ?? Buffer.concat(this.#chunks);
    this.#chunks = [joined];
    return joined;
  }

  #decode(body: Buffer): unknown {
    try {
      return this.#unpackr.unpack(body);
    } catch (cause) {
      throw new GatewayError('UNBD_CONTROLLER', 'a frame without a message came in', { cause });
    }
  }
}
