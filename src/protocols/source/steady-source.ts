/**
 * Owns: SteadySource, which makes a Source steady: it tries again from the byte where a read
 * stopped, limits how much is asked for at once, and holds through an outage.
 * Runs in: server processes, on the JS main thread.
 * Must not: keep bytes, know a protocol, or give a buffer back while a source may write into it.
 */
import assert from 'node:assert';
import type { BackendInfo, ObjectIdentity, Source, SourceRead } from '../adapter.ts';
import type { ErrorCode } from '../errors.ts';
import { type Clock, systemClock } from './clock.ts';
import { Hold, type SourceEvent } from './hold.ts';
import { Lanes, type LanesOpen } from './lanes.ts';
import { Speeds } from './minimum-speed.ts';
import { OriginProbe } from './origin-probe.ts';
import { MAXIMUM_PARALLEL, ParallelLimit } from './parallel-limit.ts';
import { RetryBudget } from './retry-pause.ts';
import { SourceError } from './source-error.ts';
import { calledOff, SteadyRead } from './steady-read.ts';

/** The store asks for a quarter of it at most; more is a leak, and not a load. */
const WAITING_MAX = 1024;
const ALL_LANES: LanesOpen = { readAhead: true, background: true };
const SLOW_FOR_MS = 10_000;
/** Nobody answers: one such failure is an outage. */
const NETWORK_FAILURES: ReadonlySet<ErrorCode> = new Set([
  'UNBD_BACKEND_UNREACHABLE',
  'UNBD_BACKEND_TIMEOUT',
  'UNBD_BACKEND_UNKNOWN_HOST',
]);

export interface SteadySourceOptions extends Partial<Clock> {
  /** How long reads wait for an origin that is away, ms; -1 for ever, 0 not at all. */
  readonly holdMs: number;
  /** Reads that the source gets at once, >= 1. */
  readonly maximumParallel?: number;
  /** For so long a connection may be slower than 4 KiB/s while others are not, ms; default 10 s. */
  readonly slowForMs?: number;
  /** Every change of the state, in order; the first state is CONNECTED and is not told. */
  told(event: SourceEvent): void;
}

export class SteadySource implements Source {
  readonly #source: Source;
  readonly #clock: Clock;
  readonly #lanes = new Lanes<SteadyRead>();
  readonly #limit: ParallelLimit;
  readonly #budget = new RetryBudget();
  readonly #hold: Hold;
  readonly #probe: OriginProbe;
  readonly #speeds: Speeds;
  readonly #slowForMs: number;
  /** All that are not settled, as asked for. */
  readonly #reads = new Map<SourceRead, SteadyRead>();
  readonly #running = new Set<SteadyRead>();
  /** The one that tries while all others wait for the origin. */
  #trying: SteadyRead | undefined;
  /** How often a byte of any read has landed. */
  #landings = 0;
  #closed: SourceError | undefined;

  constructor(source: Source, options: SteadySourceOptions) {
    const { holdMs, maximumParallel = MAXIMUM_PARALLEL } = options;
    assert(Number.isInteger(holdMs) && holdMs >= -1);
    this.#source = source;
    this.#clock = {
      now: options.now ?? systemClock.now,
      random: options.random ?? systemClock.random,
      timer: options.timer ?? systemClock.timer,
    };
    this.#speeds = new Speeds(this.#clock.now);
    this.#slowForMs = options.slowForMs ?? SLOW_FOR_MS;
    this.#limit = new ParallelLimit(maximumParallel);
    this.#hold = new Hold(holdMs, this.#clock, {
      told: (event) => options.told(event),
      refuse: (error) => this.#refuse(error),
      ready: () => this.#startMore(),
    });
    this.#probe = new OriginProbe(source, this.#clock, this.#hold.pauses, {
      answered: () => this.#hold.answered(this.#reads.size),
      changed: (error) => this.#hold.changed(error),
    });
  }

  get info(): BackendInfo {
    return this.#source.info;
  }

  get identity(): ObjectIdentity {
    return this.#source.identity;
  }

  /**
   * As `Source.read`, but rejects only where no further attempt is made: UNBD_BACKEND_IO after the
   * hold, UNBD_OBJECT_CHANGED for ever, UNBD_INTERRUPTED after an abort, UNBD_BACKEND_CLOSED after
   * close, and what is not a SourceError as it is. A read that runs rejects when the source has
   * let go of its buffer, which an abort must bring about soon.
   */
  read(read: SourceRead): Promise<void> {
    assert(this.#reads.size - this.#running.size < WAITING_MAX, 'reads that wait are bounded');
    assert(!this.#reads.has(read) && read.into.length > 0);
    const refusal = this.#closed ?? this.#hold.refusal;
    if (refusal !== undefined) return Promise.reject(refusal);
    if (read.signal.aborted) return Promise.reject(calledOff());
    const steady: SteadyRead = new SteadyRead(read, {
      clock: this.#clock,
      order: this.#lanes.nextOrder(),
      speeds: this.#speeds,
      slowForMs: this.#slowForMs,
      landed: (isFirst) => this.#landed(isFirst),
      over: () => {
        this.#reads.delete(read);
        this.#lanes.remove(steady);
      },
    });
    this.#reads.set(read, steady);
    this.#enqueue(steady);
    return steady.done;
  }

  /** Somebody waits for `read`, which was read ahead; nothing when it is settled. */
  promote(read: SourceRead): void {
    const steady = this.#reads.get(read);
    if (steady === undefined) return;
    this.#lanes.promote(steady);
    this.#startMore();
  }

  async close(): Promise<void> {
    this.#closed ??= new SourceError('UNBD_BACKEND_CLOSED', 'the source is closed');
    this.#hold.end();
    this.#probe.stop();
    this.#giveUpAll(this.#closed);
    await this.#source.close();
  }

  #enqueue(read: SteadyRead): void {
    this.#lanes.add(read);
    this.#startMore();
  }

  #startMore(): void {
    while (this.#mayStart()) {
      const isHolding = this.#hold.state === 'HOLDING';
      const next = this.#lanes.take(isHolding ? ALL_LANES : this.#openLanes());
      if (next === undefined) return;
      if (isHolding) this.#trying = next;
      void this.#run(next);
    }
  }

  #mayStart(): boolean {
    if (this.#closed !== undefined || this.#hold.refusal !== undefined) return false;
    if (this.#hold.state === 'CONNECTED') return this.#running.size < this.#limit.all;
    return this.#hold.isGateOpen && this.#trying === undefined;
  }

  #openLanes(): LanesOpen {
    const ahead = [...this.#running].filter(({ urgent }) => !urgent);
    const inBackground = ahead.filter(({ background }) => background).length;
    const readAhead = ahead.length < this.#limit.readAhead;
    return { readAhead, background: readAhead && inBackground < this.#limit.background };
  }

  async #run(read: SteadyRead): Promise<void> {
    this.#running.add(read);
    const outcome = await read.attempt(this.#source);
    this.#running.delete(read);
    if (this.#closed !== undefined) return;
    const wasTrying = this.#trying === read;
    if (wasTrying) this.#trying = undefined;
    if (outcome === 'landed') {
      this.#limit.succeeded();
      this.#budget.succeeded();
    } else if (outcome === 'over') {
      if (wasTrying) this.#shut('the read was called off');
    } else if (outcome === 'dripped') {
      // In its place, at once, and on another connection: the origin is there.
      this.#lanes.add(read);
    } else if (outcome.isFinal) {
      this.#hold.changed(outcome);
    } else {
      this.#tryAgain(read, outcome, wasTrying);
    }
    this.#startMore();
  }

  #tryAgain(read: SteadyRead, error: SourceError, wasTrying: boolean): void {
    if (error.isOverload || error.code === 'UNBD_BACKEND_TIMEOUT') {
      this.#limit.overloaded(this.#clock.now());
    }
    const { lost, aloneForMs } = read.failed(this.#landings);
    const isConnected = this.#hold.state === 'CONNECTED';
    if (isConnected && aloneForMs !== undefined && aloneForMs >= this.#hold.leftMs) {
      const text = `a range could not be read, while others could: ${error.message}`;
      read.giveUp(new SourceError('UNBD_BACKEND_IO', text, { cause: error }));
      return;
    }
    if (lost || NETWORK_FAILURES.has(error.code)) this.#hold.lost(error.message);
    if (read.isOver) return;
    const limitMs = this.#hold.leftMs;
    const wish = { retryAfterMs: error.retryAfterMs, limitMs };
    const isHolding = this.#hold.state === 'HOLDING';
    if (wasTrying) {
      // Another one tries next: a range that alone cannot be read must not keep all others away.
      read.order = this.#lanes.nextOrder();
    }
    if (isHolding && (isConnected || wasTrying)) {
      const pauseMs = this.#hold.pauses.next(wish);
      // In this order, so that the read waits in its lane again when the gate opens.
      read.pause(pauseMs, () => this.#enqueue(read));
      this.#hold.shut(pauseMs, error.message);
      return;
    }
    const isLongest = !isHolding && !this.#budget.take();
    const pauseMs = read.pauses.next({ ...wish, isLongest });
    read.pause(pauseMs, () => this.#enqueue(read));
  }

  /** The one that tried is gone; an outage costs one attempt per pause all the same. */
  #shut(reason: string): void {
    if (this.#hold.state !== 'HOLDING') return;
    const limitMs = Number.POSITIVE_INFINITY;
    this.#hold.shut(this.#hold.pauses.next({ limitMs }), reason);
  }

  #landed(isFirst: boolean): void {
    this.#landings += 1;
    if (isFirst) this.#limit.answered();
    if (this.#hold.state === 'HOLDING') {
      this.#trying = undefined;
      this.#hold.answered(this.#reads.size);
    } else if (!isFirst) {
      return;
    }
    this.#startMore();
  }

  /** FAILING: a probe goes on. FATAL: for ever. */
  #refuse(error: SourceError): void {
    this.#trying = undefined;
    this.#giveUpAll(error);
    if (error.isFinal) this.#probe.stop();
    else this.#probe.start();
  }

  #giveUpAll(error: SourceError): void {
    for (const read of [...this.#reads.values()]) read.giveUp(error);
  }
}
