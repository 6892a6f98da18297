/**
 * Owns: one read of a SteadySource from when it was asked for until it is settled: how far it has
 * come, its attempts, and that nobody hears of it once it is settled.
 * Runs in: any process.
 * Must not: decide when it is tried again, or touch `into` itself.
 */
import assert from 'node:assert';
import type { Source, SourceRead } from '../adapter.ts';
import { asGatewayError } from '../errors.ts';
import type { Clock } from './clock.ts';
import type { Waiting } from './lanes.ts';
import { DripWatch, type Speeds } from './minimum-speed.ts';
import { RetryPause } from './retry-pause.ts';
import { SourceError } from './source-error.ts';

/**
 * `over`: it is settled, or was given up meanwhile. `dripped`: its connection was too slow, the
 * rest is to be asked for again. An error: it may be tried again.
 */
export type Outcome = 'landed' | 'over' | 'dripped' | SourceError;

export interface SteadyReadOptions {
  readonly clock: Clock;
  readonly order: number;
  readonly speeds: Speeds;
  /** For so long a connection may be too slow, ms. */
  readonly slowForMs: number;
  /** More of it is there, during an attempt; `isFirst`: for the first time in that attempt. */
  landed(isFirst: boolean): void;
  /** Once, when it is settled. */
  over(): void;
}

export class SteadyRead implements Waiting {
  readonly done: Promise<void>;
  readonly pauses: RetryPause;
  urgent: boolean;
  readonly background: boolean;
  order: number;

  readonly #read: SourceRead;
  readonly #options: SteadyReadOptions;
  #settle: (error?: SourceError) => void = () => undefined;
  readonly #drip: DripWatch;
  #landedBytes = 0;
  /** Of the attempt that runs. */
  #attempt: AbortController | undefined;
  /** It was ended because it drips. */
  #isDripping = false;
  #isOver = false;
  /** What it rejects with, as soon as the attempt that runs lets its buffer go. */
  #verdict: SourceError | undefined;
  #endPause: () => void = () => undefined;

  /** Failures in a row, of attempts that brought nothing. */
  #failures = 0;
  #failingSinceMs = 0;
  /** The source's landings at the first of these failures, and at the last. */
  #landingsAtFirst = 0;
  #landingsAtLast = 0;
  #hasProgress = false;

  constructor(read: SourceRead, options: SteadyReadOptions) {
    this.#read = read;
    this.#options = options;
    this.urgent = read.urgent;
    this.background = read.background === true;
    this.order = options.order;
    this.pauses = new RetryPause(options.clock.random);
    this.#drip = new DripWatch({
      clock: options.clock,
      speeds: options.speeds,
      windowMs: options.slowForMs,
      dripped: () => {
        this.#isDripping = true;
        this.#attempt?.abort(tooSlow());
      },
    });
    const onAbort = () => this.giveUp(calledOff());
    this.done = new Promise((resolve, reject) => {
      this.#settle = (error) => {
        this.#isOver = true;
        this.#endPause();
        read.signal.removeEventListener('abort', onAbort);
        options.over();
        if (error === undefined) resolve();
        else reject(error);
      };
    });
    read.signal.addEventListener('abort', onAbort);
  }

  /** Settled, or about to be. */
  get isOver(): boolean {
    return this.#isOver || this.#verdict !== undefined;
  }

  /**
   * Rejects it: at once, or while an attempt runs as soon as that has ended, since until then the
   * source may still write into the buffer, which belongs to somebody else after the rejection.
   */
  giveUp(error: SourceError): void {
    if (this.isOver) return;
    this.#verdict = error;
    if (this.#attempt === undefined) this.#settle(error);
    else this.#attempt.abort();
  }

  /** Asks `source` for what has not landed; settles unless it may be tried again. */
  async attempt(source: Source): Promise<Outcome> {
    assert(this.#attempt === undefined && !this.isOver, 'one attempt at a time');
    const attempt = new AbortController();
    this.#attempt = attempt;
    this.#hasProgress = false;
    this.#isDripping = false;
    this.#drip.started();
    const { offsetBytes, into } = this.#read;
    const from = this.#landedBytes;
    let failure: unknown;
    try {
      await source.read({
        offsetBytes: offsetBytes + from,
        into: into.subarray(from),
        urgent: this.urgent,
        background: this.background,
        signal: attempt.signal,
        landed: (bytes) => {
          if (this.#attempt === attempt) this.#land(from + bytes);
        },
      });
      this.#land(into.length);
    } catch (thrown) {
      failure = thrown;
    }
    this.#attempt = undefined;
    this.#drip.ended();
    return this.#outcome(failure);
  }

  #outcome(failure: unknown): Outcome {
    const isFinal = failure instanceof SourceError && failure.isFinal;
    if (this.#verdict !== undefined) {
      this.#settle(this.#verdict);
      return isFinal ? failure : 'over';
    }
    if (isFinal) return failure;
    // What has landed is right, whatever came after the last byte.
    if (this.#landedBytes === this.#read.into.length) {
      this.#settle();
      return 'landed';
    }
    if (this.#isDripping) {
      this.#succeeded();
      return 'dripped';
    }
    if (failure instanceof SourceError) return failure;
    const { code, message } = asGatewayError(failure);
    this.#settle(new SourceError(code, message, { cause: failure }));
    return 'over';
  }

  #land(bytes: number): void {
    if (this.isOver || bytes <= this.#landedBytes) return;
    assert(bytes <= this.#read.into.length, 'no more than was asked for');
    this.#drip.landed(bytes - this.#landedBytes);
    const isFirst = !this.#hasProgress;
    this.#landedBytes = bytes;
    this.#hasProgress = true;
    this.#read.landed(bytes);
    this.#options.landed(isFirst);
  }

  /**
   * Counts the failure of the last attempt, where `landings` counts how often a byte of any read
   * of the source has landed. `lost`: it failed twice in a row, and nothing landed in between.
   * `aloneForMs`: so long others have brought bytes and this one has not; undefined: it is not so.
   */
  failed(landings: number): { readonly lost: boolean; readonly aloneForMs: number | undefined } {
    const nowMs = this.#options.clock.now();
    if (this.#hasProgress) this.#succeeded();
    this.#failures += 1;
    if (this.#failures === 1) {
      this.#failingSinceMs = nowMs;
      this.#landingsAtFirst = landings;
    }
    const isAgain = this.#failures > 1;
    const lost = isAgain && landings === this.#landingsAtLast;
    this.#landingsAtLast = landings;
    const isAlone = isAgain && landings !== this.#landingsAtFirst;
    return { lost, aloneForMs: isAlone ? nowMs - this.#failingSinceMs : undefined };
  }

  /** It has come further: what failed before counts no more. */
  #succeeded(): void {
    this.#failures = 0;
    this.pauses.reset();
  }

  /** Calls `then` after `pauseMs`, unless it is given up before. */
  pause(pauseMs: number, then: () => void): void {
    this.#endPause = this.#options.clock.timer(pauseMs, then);
  }
}

export function calledOff(): SourceError {
  return new SourceError('UNBD_INTERRUPTED', 'the read was called off');
}

function tooSlow(): SourceError {
  return new SourceError('UNBD_BACKEND_TIMEOUT', 'the connection was too slow');
}
