/**
 * Owns: the memory in which what a connection receives lands before it is parsed: one piece for all
 * connections, used again for each read of a socket.
 * Runs in: server processes and the CLI, on the JS main thread.
 * Must not: lend a piece that may have a part of a head in it: undici keeps names and values of
 * headers as views of it until the head is whole, which may be a read later, when any connection
 * has written over them. The bytes of a body are copied within the event that brings them; trailers
 * may be garbled, which nobody reads. Without this memory node makes a new buffer of 64 KiB for
 * each read, and collecting those is a large part of the work (`npm run bench -- http`).
 */
import type { Socket } from 'node:net';

/** Each event costs some ten thousand instructions: of a fast connection few, and large. */
const PIECE_BYTES = 256 * 1024;
/** What may have a part of a head in it is copied: enough for an answer to a read of 16 KiB. */
const FIRST_PIECE_BYTES = 20 * 1024;

const memory = Buffer.allocUnsafeSlow(PIECE_BYTES);
const first = memory.subarray(0, FIRST_PIECE_BYTES);

/** What an exchange says of the connection that it has. */
export interface Stage {
  /** The head of the answer was read to its end, the body was not. */
  readonly isInBody: boolean;
}

/** Of one connection at a time. */
export class Landing {
  /** For net.connect and tls.connect. */
  readonly onread = {
    buffer: (): Buffer => (this.#stage.isInBody ? memory : first),
    callback: (bytes: number): boolean => this.#landed(bytes),
  };

  readonly #stage: Stage;
  #socket: Socket | undefined;
  #piece: Buffer | undefined;

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  /** Makes `socket`, which was connected with `onread`, give its pieces to whoever reads it. */
  serve(socket: Socket): void {
    this.#socket = socket;
    this.#piece = undefined;
    const readStream = socket.read.bind(socket);
    socket.read = (size?: number): Buffer | null => {
      const piece = this.#socket === socket ? this.#piece : undefined;
      if (piece === undefined) return readStream(size) as Buffer | null;
      this.#piece = undefined;
      return piece;
    };
  }

  #landed(bytes: number): boolean {
    const piece = memory.subarray(0, bytes);
    this.#piece = this.#stage.isInBody ? piece : Buffer.from(piece);
    this.#socket?.emit('readable');
    if (this.#piece === undefined) return true;
    // An origin that speaks before it is asked; the memory is somebody else's from here on.
    this.#piece = undefined;
    this.#socket?.destroy(new Error('bytes came that nobody waits for'));
    return false;
  }
}
