/**
 * Owns: the backend's end of one connection: exact reads, whole writes, hang-ups.
 * Runs in: test processes.
 * Must not: know NBD; reject for anything but the end of the connection (PeerGone).
 */
import type { Duplex } from 'node:stream';

/** The client went away; a script ends with it. */
export class PeerGone extends Error {}

/** Bytes that have arrived, in arrival order, given out in exact lengths. */
export class Inbox {
  #pieces: Buffer[] = [];
  #available = 0;
  #ended = false;
  #wake: (() => void) | undefined;

  constructor(duplex: Duplex) {
    duplex.on('data', (piece: Buffer) => {
      this.#pieces.push(piece);
      this.#available += piece.length;
      this.#wake?.();
    });
    for (const event of ['end', 'close', 'error']) {
      duplex.on(event, () => {
        this.#ended = true;
        this.#wake?.();
      });
    }
  }

  /** The other end sends no more. */
  get ended(): boolean {
    return this.#ended;
  }

  get availableBytes(): number {
    return this.#available;
  }

  /** Undefined: the stream ended before `lengthBytes` bytes came. */
  async take(lengthBytes: number): Promise<Buffer | undefined> {
    while (this.#available < lengthBytes) {
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#available -= lengthBytes;
    const taken: Buffer[] = [];
    let missing = lengthBytes;
    while (missing > 0) {
      const piece = this.#pieces[0] as Buffer;
      if (piece.length <= missing) {
        taken.push(piece);
        this.#pieces.shift();
      } else {
        taken.push(piece.subarray(0, missing));
        this.#pieces[0] = piece.subarray(missing);
      }
      missing -= Math.min(missing, piece.length);
    }
    return taken.length === 1 ? (taken[0] as Buffer) : Buffer.concat(taken, lengthBytes);
  }
}

export interface PeerOptions {
  /** The first 512 bytes of every write leave in pieces of this size, each its own chunk. */
  readonly pieceBytes?: number;
}

export class Peer {
  readonly #duplex: Duplex;
  readonly #inbox: Inbox;
  readonly #pieceBytes: number;

  constructor(duplex: Duplex, options: PeerOptions = {}) {
    this.#duplex = duplex;
    this.#inbox = new Inbox(duplex);
    this.#pieceBytes = options.pieceBytes ?? Number.POSITIVE_INFINITY;
    duplex.on('error', () => undefined);
  }

  async read(lengthBytes: number): Promise<Buffer> {
    const bytes = await this.#inbox.take(lengthBytes);
    if (bytes === undefined) throw new PeerGone();
    return bytes;
  }

  async write(...parts: readonly Uint8Array[]): Promise<void> {
    const bytes = Buffer.concat(parts);
    for (let at = 0; at < bytes.length; ) {
      if (this.gone) throw new PeerGone();
      const end = at < 512 ? Math.min(bytes.length, at + this.#pieceBytes) : bytes.length;
      const taken = this.#duplex.write(bytes.subarray(at, end));
      if (!taken) await this.#drained();
      if (end < bytes.length) await new Promise((resolve) => setImmediate(resolve));
      at = end;
    }
  }

  /** Until what was written has left, or the connection is gone. */
  #drained(): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#duplex.off('drain', done);
        this.#duplex.off('close', done);
        resolve();
      };
      this.#duplex.on('drain', done);
      this.#duplex.on('close', done);
    });
  }

  /** One byte every `everyMs`, until the client goes away. */
  async drip(bytes: Uint8Array, everyMs: number): Promise<void> {
    for (const byte of bytes) {
      if (this.gone) throw new PeerGone();
      this.#duplex.write(Buffer.of(byte));
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }

  /** Takes and forgets what the client sends until it goes away. */
  async drain(): Promise<void> {
    for (;;) {
      if ((await this.#inbox.take(Math.max(1, this.#inbox.availableBytes))) === undefined) return;
    }
  }

  /** Whether the client's end is gone. */
  get gone(): boolean {
    return this.#duplex.destroyed || this.#inbox.ended;
  }

  /** Sends what was written, then closes. */
  close(): void {
    this.#duplex.end();
    this.#duplex.destroySoon?.();
  }
}

declare module 'node:stream' {
  interface Duplex {
    /** Sockets have it: destroys when everything is written. */
    destroySoon?(): void;
  }
}
