/**
 * Owns: whether a read drips: its connection brings bytes, but so slowly that another connection
 * is to be tried for the rest.
 * Runs in: any process; pure, but for the clock.
 * Must not: fail a read: an origin that is slow for everybody is waited for. Silence is judged by
 * whoever has the connection.
 */
import type { Clock } from './clock.ts';

/** Of a connection; what is faster is never given up. */
const MINIMUM_BYTES_PER_S = 4096;
/** Others are faster only if they are so by far: all connections of a narrow line are slow. */
const BETTER_TIMES = 4;
/** A range for which no connection is better must not be asked for ever again. */
const DOUBLINGS_MAX = 6;

interface Sample {
  readonly atMs: number;
  readonly bytes: number;
  readonly busyMs: number;
}

/** What all reads of a source have brought, and for how long they were under way, added up. */
export class Speeds {
  readonly #now: Clock['now'];
  #bytes = 0;
  #running = 0;
  #busyMs = 0;
  #countedAtMs = 0;

  constructor(now: Clock['now']) {
    this.#now = now;
  }

  started(): void {
    this.sample();
    this.#running += 1;
  }

  ended(): void {
    this.sample();
    this.#running -= 1;
  }

  landed(bytes: number): void {
    this.#bytes += bytes;
  }

  sample(): Sample {
    const atMs = this.#now();
    this.#busyMs += this.#running * (atMs - this.#countedAtMs);
    this.#countedAtMs = atMs;
    return { atMs, bytes: this.#bytes, busyMs: this.#busyMs };
  }
}

export interface DripWatchOptions {
  readonly clock: Clock;
  readonly speeds: Speeds;
  /** For so long a connection is watched before it is judged, ms. */
  readonly windowMs: number;
  /** The attempt that is under way drips. */
  dripped(): void;
}

/** Of one read, through all of its attempts. */
export class DripWatch {
  readonly #options: DripWatchOptions;
  /** Where the window began; undefined: nothing has landed in this attempt yet. */
  #from: Sample | undefined;
  #bytes = 0;
  /** In a row. */
  #drips = 0;
  #stopTimer: () => void = () => undefined;

  constructor(options: DripWatchOptions) {
    this.#options = options;
  }

  started(): void {
    this.#options.speeds.started();
  }

  landed(bytes: number): void {
    this.#options.speeds.landed(bytes);
    if (this.#from === undefined) this.#begin();
    else this.#bytes += bytes;
  }

  ended(): void {
    this.#stopTimer();
    this.#from = undefined;
    this.#options.speeds.ended();
  }

  #begin(): void {
    const { clock, speeds, windowMs } = this.#options;
    const from = speeds.sample();
    this.#from = from;
    this.#bytes = 0;
    const lengthMs = windowMs * 2 ** Math.min(this.#drips, DOUBLINGS_MAX);
    this.#stopTimer = clock.timer(lengthMs, () => this.#judge(from));
  }

  #judge(from: Sample): void {
    const now = this.#options.speeds.sample();
    const tookMs = now.atMs - from.atMs;
    const perSecond = (this.#bytes * 1000) / tookMs;
    if (perSecond >= MINIMUM_BYTES_PER_S) this.#drips = 0;
    if (this.#bytes === 0 || perSecond >= MINIMUM_BYTES_PER_S) {
      this.#begin();
      return;
    }
    const othersMs = now.busyMs - from.busyMs - tookMs;
    const othersPerSecond = ((now.bytes - from.bytes - this.#bytes) * 1000) / othersMs;
    const isAlone = othersMs < tookMs / 2;
    if (isAlone || othersPerSecond >= Math.max(MINIMUM_BYTES_PER_S, perSecond * BETTER_TIMES)) {
      this.#drips += 1;
      this.#options.dripped();
    } else {
      this.#begin();
    }
  }
}
