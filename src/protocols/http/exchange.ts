/**
 * Owns: one request and its answer: the clock, the judgement of the head before the body, the
 * copy of the body to where it is wanted, and the end of the connection when it is not.
 * Runs in: server processes and the CLI, on the JS main thread.
 * Must not: follow a redirect, or know what a range is; write anything after it ended.
 */
import type { Dispatcher } from 'undici';
import type { Place } from '../adapter.ts';
import type { Traffic } from '../source/traffic.ts';
import { type Answer, type AnswerHeaders, wrongAnswer } from './answer.ts';
import { type Body, Heard, placed } from './body.ts';
import { isReset, networkError, type Trouble, timeoutError } from './failures.ts';
import { givenUp } from './given-up.ts';
import type { Connection, Pools } from './pools.ts';
import { addressText } from './url.ts';

export interface Request {
  readonly url: URL;
  /** Names and values in turn. */
  readonly headers: readonly string[];
  /** What messages call the thing that is asked for. */
  readonly subject: string;
  /** For the head of the answer, and between two pieces of its body, ms. */
  readonly timeoutMs: number;
  /** The whole body: no byte more and none less. */
  readonly into: Place;
  /** A SourceError that is its reason becomes the error of the exchange. */
  readonly signal: AbortSignal;
  /**
   * Whether the body is wanted: in `into`, not at all, or as the text of a refusal. What it throws
   * ends the exchange.
   */
  judge(answer: Answer): 'take' | 'leave' | 'hear';
  /** Of an answer that is taken: what its body is for, where that is not `into`. */
  body?(answer: Answer): Body | undefined;
  landed(bytes: number): void;
}

/**
 * Resolves with the head of the answer, after the body is in `into` if it is wanted; otherwise
 * the body is not transferred. Rejects with a SourceError, and then writes nothing more.
 *
 * An origin may end an idle connection while a request is on its way to it (RFC 9112, 9.3.1). That
 * is no failure of the origin: the request is sent once more on another connection.
 */
export async function exchange(pools: Pools, request: Request): Promise<Answer> {
  const first = new Exchange(request, pools.traffic);
  try {
    return await first.run(pools);
  } catch (error) {
    if (!first.metAnEndedConnection) throw error;
  }
  return new Exchange(request, pools.traffic).run(pools);
}

class Exchange implements Dispatcher.DispatchHandler {
  /** The connection had been used, and ended before a byte of the answer came. */
  metAnEndedConnection = false;

  readonly #request: Request;
  readonly #traffic: Traffic;
  readonly #promise: Promise<Answer>;
  #resolve: (answer: Answer) => void = () => {};
  #reject: (error: unknown) => void = () => {};
  #connection: Connection = { requests: 0, isInBody: false };
  #controller: Dispatcher.DispatchController | undefined;
  #timer: NodeJS.Timeout | undefined;
  #answer: Answer | undefined;
  #body: Body | undefined;
  #heard: Heard | undefined;
  #receivedBytes = 0;
  #sentAtMs = 0;
  #isSent = false;
  #isReused = false;
  #hasBegun = false;
  #isDone = false;

  constructor(request: Request, traffic: Traffic) {
    this.#request = request;
    this.#traffic = traffic;
    this.#promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  run(pools: Pools): Promise<Answer> {
    const { url, headers, signal } = this.#request;
    if (signal.aborted) {
      this.#onAbort();
      return this.#promise;
    }
    signal.addEventListener('abort', this.#onAbort);
    const options = {
      method: 'GET',
      path: `${url.pathname}${url.search}`,
      headers: [...headers],
      takes: (connection: Connection) => {
        this.#connection = connection;
      },
    };
    pools.dispatch(url.origin, options, this);
    return this.#promise;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    // Thrown here, it spares the connection, on which nothing was sent yet.
    if (this.#isDone) throw new Error('nobody waits for it');
    this.#controller = controller;
    this.#isSent = true;
    this.#sentAtMs = performance.now();
    this.#traffic.sent();
    this.#isReused = this.#connection.requests > 0;
    this.#connection.requests += 1;
    this.#connection.isInBody = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#onTimeout(), this.#request.timeoutMs);
  }

  onResponseStarted(): void {
    this.#hasBegun = true;
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: AnswerHeaders,
  ): void {
    // Interim answers (RFC 9110, 15.2) come before the one that counts.
    if (status < 200) return;
    this.#connection.isInBody = true;
    if (this.#isDone) return;
    this.#timer?.refresh();
    const answer = { status, headers };
    try {
      const verdict = this.#request.judge(answer);
      if (verdict !== 'leave') {
        this.#answer = answer;
        if (verdict === 'hear') this.#heard = new Heard();
        this.#body = this.#heard ?? this.#request.body?.(answer) ?? placed(this.#request);
        return;
      }
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#finish(answer);
    // An empty body is no transfer, and leaves the connection usable.
    if (headers['content-length'] !== '0') this.#drop();
  }

  onResponseData(_controller: Dispatcher.DispatchController, piece: Buffer): void {
    const body = this.#body;
    if (this.#isDone || body === undefined || this.#answer === undefined) return;
    const { lengthBytes } = body;
    const atBytes = this.#receivedBytes;
    if (lengthBytes !== undefined && piece.length > lengthBytes - atBytes) {
      const text = `it sends more than the ${lengthBytes} bytes asked for`;
      this.#fail(wrongAnswer(this.#request.subject, text));
      return;
    }
    // What an origin says to refuse is short, or not worth to wait for.
    if (this.#heard === undefined) {
      this.#timer?.refresh();
      if (atBytes === 0) this.#traffic.began(performance.now() - this.#sentAtMs);
    }
    this.#receivedBytes += piece.length;
    try {
      if (body.take(piece, atBytes) === 'more') return;
      this.#finish(this.#answer);
      this.#drop();
    } catch (error) {
      this.#fail(error);
    }
  }

  onResponseEnd(): void {
    this.#connection.isInBody = false;
    if (this.#isDone || this.#answer === undefined) return;
    const lengthBytes = this.#body?.lengthBytes;
    if (lengthBytes === undefined || this.#receivedBytes === lengthBytes) {
      this.#finish(this.#answer);
      return;
    }
    const text = `it sends ${this.#receivedBytes} of ${lengthBytes} bytes`;
    this.#fail(wrongAnswer(this.#request.subject, text));
  }

  onResponseError(_controller: Dispatcher.DispatchController, cause: Error): void {
    if (this.#isDone) return;
    this.metAnEndedConnection = this.#isReused && !this.#hasBegun && isReset(cause);
    this.#fail(networkError({ ...this.#trouble(), cause }));
  }

  readonly #onAbort = (): void => {
    this.#fail(givenUp(this.#request.signal, this.#request.subject));
  };

  /** A process that was stopped for long first looks at what has come in the meantime. */
  #onTimeout(): void {
    const receivedBytes = this.#receivedBytes;
    const hadHead = this.#answer !== undefined;
    setImmediate(() => {
      // A refusal has had its time, whatever it says meanwhile.
      const isSilent = this.#heard !== undefined || receivedBytes === this.#receivedBytes;
      if (this.#isDone || !isSilent || hadHead !== (this.#answer !== undefined)) return;
      this.#fail(timeoutError(this.#trouble()));
    });
  }

  #trouble(): Omit<Trouble, 'cause'> {
    return {
      subject: this.#request.subject,
      host: this.#request.url.host,
      timeoutMs: this.#request.timeoutMs,
      isSent: this.#isSent,
      receivedBytes: this.#receivedBytes,
      isRefusing: this.#heard !== undefined,
    };
  }

  #finish(answer: Answer): void {
    this.#end();
    this.#resolve(this.#heard === undefined ? answer : { ...answer, body: this.#heard.text });
  }

  #fail(error: unknown): void {
    this.#end();
    this.#reject(error);
    this.#drop();
  }

  #end(): void {
    this.#isDone = true;
    clearTimeout(this.#timer);
    this.#request.signal.removeEventListener('abort', this.#onAbort);
  }

  /** Ends the connection: the rest of the body stays where it is. */
  #drop(): void {
    this.#controller?.abort(new Error(`${addressText(this.#request.url)} is not read further`));
  }
}
