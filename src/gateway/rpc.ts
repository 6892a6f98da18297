/**
 * Owns: one RPC connection after its hello: requests both ways, answers, progress, cancel, events.
 * Runs in: the CLI, the controller and server processes, on the JS main thread.
 * Must not: crash on what comes in; what is no message closes the connection. Everything is
 * bounded: frame size, requests pending, requests running, bytes not yet sent.
 */
import type { Socket } from 'node:net';
import { asGatewayError, type ErrorCode, EXIT_STATUS, GatewayError } from '../protocols/errors.ts';
import { encodeFrame } from './frames.ts';
import {
  closedError,
  exchangeHello,
  type Greeted,
  type Hello,
  type HelloOptions,
  notAMessage,
} from './hello.ts';

const MAXIMUM_PENDING = 256;
const MAXIMUM_RUNNING = 64;
const MAXIMUM_UNSENT_BYTES = 8 * 1024 * 1024;
/** How long a cancelled request may take to undo what it did. */
const CANCEL_GRACE_MS = 30_000;

const REQUEST = 0;
const ANSWER = 1;
const ERROR = 2;
const EVENT = 3;
const PROGRESS = 4;
const CANCEL = 5;

export interface RequestContext {
  /** Aborted when the asker cancels or goes away. */
  readonly signal: AbortSignal;
  readonly peer: Peer;
  progress(text: string): void;
}

export interface PeerOptions extends HelloOptions {
  readonly onRequest?: (
    name: string,
    argument: unknown,
    context: RequestContext,
  ) => Promise<unknown>;
  readonly onEvent?: (name: string, argument: unknown, peer: Peer) => void;
}

export interface RequestOptions {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
  readonly onProgress?: ((text: string) => void) | undefined;
}

interface Pending {
  settle(error: GatewayError | undefined, value?: unknown): void;
  readonly onProgress: ((text: string) => void) | undefined;
}

export class Peer {
  readonly remote: Hello;
  /** Resolves when the connection has ended, for whatever reason. */
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #options: PeerOptions;
  readonly #pending = new Map<number, Pending>();
  readonly #running = new Map<number, AbortController>();
  #nextId = 1;
  #ended = false;

  /** Exchanges hellos. Destroys the socket when it rejects. */
  static async open(socket: Socket, options: PeerOptions): Promise<Peer> {
    return new Peer(socket, options, await exchangeHello(socket, options));
  }

  private constructor(socket: Socket, options: PeerOptions, greeted: Greeted) {
    this.#socket = socket;
    this.#options = options;
    this.remote = greeted.remote;
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    socket.once('close', () => this.#end());
    socket.on('data', (chunk: Buffer) => {
      let messages: unknown[] = [];
      try {
        messages = greeted.decoder.push(chunk);
      } catch {
        this.close();
      }
      this.#receive(messages);
    });
    // After the opener has had its turn to keep the peer that its handlers will speak about.
    setImmediate(() => {
      this.#receive(greeted.early);
      socket.resume();
    });
  }

  get isClosed(): boolean {
    return this.#ended || this.#socket.destroyed;
  }

  /** What was sent and the other side has not taken yet. */
  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  close(): void {
    this.#socket.destroy();
    this.#end();
  }

  event(name: string, argument: unknown): void {
    this.#send([EVENT, 0, name, argument]);
  }

  /** Rejects with a GatewayError. An abort asks the other side to undo, and waits for that. */
  request(name: string, argument: unknown, options: RequestOptions = {}): Promise<unknown> {
    if (this.isClosed) return Promise.reject(closedError(this.#options, 'is gone'));
    if (this.#pending.size >= MAXIMUM_PENDING) {
      return Promise.reject(closedError(this.#options, 'has too many requests pending'));
    }
    const id = this.#nextId++;
    const { signal, timeoutMs } = options;
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const settle = (error: GatewayError | undefined, value?: unknown): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        this.#pending.delete(id);
        if (error === undefined) resolve(value);
        else reject(error);
      };
      const giveUpAfter = (timeoutMs: number, error: () => GatewayError): void => {
        clearTimeout(timer);
        timer = setTimeout(() => settle(error()), timeoutMs);
      };
      const onAbort = (): void => {
        this.#send([CANCEL, id]);
        giveUpAfter(CANCEL_GRACE_MS, () => new GatewayError('UNBD_INTERRUPTED', 'interrupted'));
      };
      this.#pending.set(id, { settle, onProgress: options.onProgress });
      if (timeoutMs !== undefined) {
        const text = `did not answer '${name}' in ${timeoutMs} ms`;
        giveUpAfter(timeoutMs, () => closedError(this.#options, text));
      }
      this.#send([REQUEST, id, name, argument]);
      signal?.addEventListener('abort', onAbort, { once: true });
      if (signal?.aborted) onAbort();
    });
  }

  #send(message: readonly unknown[]): void {
    if (this.isClosed) return;
    this.#socket.write(encodeFrame(message));
    if (this.#socket.writableLength > MAXIMUM_UNSENT_BYTES) this.close();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const pending of [...this.#pending.values()]) {
      pending.settle(closedError(this.#options, 'closed the connection'));
    }
    for (const running of this.#running.values()) running.abort();
  }

  #receive(messages: readonly unknown[]): void {
    for (const message of messages) {
      if (this.#ended) return;
      if (!this.#dispatch(message)) this.close();
    }
  }

  /** False when it is no message of this protocol. */
  #dispatch(message: unknown): boolean {
    if (!Array.isArray(message)) return false;
    const [kind, id, first, second] = message as unknown[];
    if (typeof kind !== 'number' || typeof id !== 'number') return false;
    if (kind === ANSWER) this.#pending.get(id)?.settle(undefined, first);
    else if (kind === ERROR) this.#pending.get(id)?.settle(errorFromWire(first));
    else if (kind === PROGRESS) this.#pending.get(id)?.onProgress?.(String(first));
    else if (kind === CANCEL) this.#running.get(id)?.abort();
    else if (typeof first !== 'string') return false;
    else if (kind === EVENT) this.#options.onEvent?.(first, second, this);
    else if (kind === REQUEST) void this.#serve(id, first, second);
    else return false;
    return true;
  }

  async #serve(id: number, name: string, argument: unknown): Promise<void> {
    const abort = new AbortController();
    const context: RequestContext = {
      signal: abort.signal,
      peer: this,
      progress: (text) => this.#send([PROGRESS, id, text]),
    };
    try {
      if (this.#running.size >= MAXIMUM_RUNNING || this.#running.has(id)) {
        throw new GatewayError('UNBD_CONTROLLER', 'too many requests at once');
      }
      this.#running.set(id, abort);
      const handler = this.#options.onRequest;
      if (handler === undefined) throw notAMessage();
      this.#send([ANSWER, id, await handler(name, argument, context)]);
    } catch (thrown) {
      const { code, message, hint } = asGatewayError(thrown);
      this.#send([ERROR, id, { code, message, hint }]);
    } finally {
      if (this.#running.get(id) === abort) this.#running.delete(id);
    }
  }
}

/** An error as it came over the wire; a code that we do not know becomes UNBD_INTERNAL. */
export function errorFromWire(value: unknown): GatewayError {
  const { code, message, hint } = (value ?? {}) as Record<string, unknown>;
  const known = typeof code === 'string' && Object.hasOwn(EXIT_STATUS, code);
  return new GatewayError(
    known ? (code as ErrorCode) : 'UNBD_INTERNAL',
    typeof message === 'string' ? message : 'an error without a message',
    typeof hint === 'string' ? { hint } : {},
  );
}
