/**
 * Owns: one handshake's traffic: its budget of bytes, its deadline, and errors that name the peer
 * and the phase.
 * Runs in: server processes and the CLI (`info`), on the JS main thread.
 * Must not: know an option; ask the stream for more than the next field (the queue reads what
 * follows).
 */
import type { ByteStream } from '../adapter.ts';
import { asGatewayError, GatewayError } from '../errors.ts';
import { MAXIMUM_HANDSHAKE_BYTES } from './wire.ts';

/** Discarded replies pass through a piece of this size. */
const DISCARD_BYTES = 4096;

export class Session {
  readonly #stream: ByteStream;
  readonly #timeoutMs: number;
  readonly #endMs: number;
  #budgetBytes = MAXIMUM_HANDSHAKE_BYTES;

  /** The one deadline of the whole handshake starts here. */
  constructor(stream: ByteStream, timeoutMs: number) {
    this.#stream = stream;
    this.#timeoutMs = timeoutMs;
    this.#endMs = performance.now() + timeoutMs;
    stream.setDeadline(timeoutMs);
  }

  get peer(): string {
    return this.#stream.peer;
  }

  /** Exactly `lengthBytes` bytes. `awaited` is what the backend owes: `its greeting`. */
  async receive(lengthBytes: number, awaited: string): Promise<Buffer> {
    this.#budgetBytes -= lengthBytes;
    if (this.#budgetBytes < 0) {
      throw this.violation(`it sends more than ${MAXIMUM_HANDSHAKE_BYTES} bytes of handshake`);
    }
    if (lengthBytes === 0) return Buffer.alloc(0);
    try {
      return await this.#stream.recv(lengthBytes);
    } catch (error) {
      throw this.#broken(error, awaited);
    }
  }

  /** Takes `lengthBytes` off the stream without keeping them. */
  async discard(lengthBytes: number, awaited: string): Promise<void> {
    for (let left = lengthBytes; left > 0; left -= DISCARD_BYTES) {
      await this.receive(Math.min(left, DISCARD_BYTES), awaited);
    }
  }

  async send(bytes: Uint8Array, awaited: string): Promise<void> {
    try {
      await this.#stream.send(bytes);
    } catch (error) {
      throw this.#broken(error, awaited);
    }
  }

  /** For farewells: no more than `timeoutMs` from now, never beyond the deadline. */
  shortenDeadline(timeoutMs: number): void {
    this.#stream.setDeadline(Math.max(1, Math.min(timeoutMs, this.#endMs - performance.now())));
  }

  close(): void {
    this.#stream.close();
  }

  violation(what: string): GatewayError {
    const message = `backend ${this.peer} breaks the NBD protocol: ${what}`;
    return new GatewayError('UNBD_BACKEND_PROTOCOL', message, {
      hint: 'this is a fault of the backend: update it',
    });
  }

  /** A stream's error with the phase in its message. */
  #broken(error: unknown, awaited: string): GatewayError {
    const cause = asGatewayError(error);
    const backend = `backend ${this.peer}`;
    const first = awaited === GREETING;
    if (cause.code === 'UNBD_BACKEND_TIMEOUT') {
      const message = `${backend} did not send ${awaited} within ${this.#timeoutMs / 1000} s`;
      const hint = first
        ? 'it may not speak NBD, or already serve as many clients as it allows'
        : 'it hangs: look at its log, restart it';
      return new GatewayError(cause.code, message, { hint, cause });
    }
    if (cause.code === 'UNBD_BACKEND_CLOSED') {
      const message = `${backend} closed the connection when it should have sent ${awaited}`;
      const hint = first ? 'it may not speak NBD, or refuse this client' : 'look at its log';
      return new GatewayError(cause.code, message, { hint, cause });
    }
    if (cause.code === 'UNBD_BACKEND_IO') {
      const message = `the connection to ${backend} broke before ${awaited}: ${cause.message}`;
      return new GatewayError(cause.code, message, { hint: 'check the network', cause });
    }
    return cause;
  }
}

/** The first thing that a backend owes. */
export const GREETING = 'its greeting';
