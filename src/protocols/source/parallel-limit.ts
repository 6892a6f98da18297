/**
 * Owns: how many reads an origin gets at once: more while all goes well, half when it has too much
 * to do.
 * Runs in: any process; pure.
 * Must not: count what runs.
 */
import assert from 'node:assert';

/** Reads of a source at once, and connections to its origin, where nobody says otherwise. */
export const MAXIMUM_PARALLEL = 16;

/** Each of them costs a round trip before it brings anything: half of what there may be. */
const FIRST_LIMIT = 8;
/** The failures of one moment have one cause, and are answered once. */
const CUT_EVERY_MS = 1_000;

export class ParallelLimit {
  readonly #maximum: number;
  #limit: number;
  #successes = 0;
  #wasCut = false;
  #cutAtMs = Number.NEGATIVE_INFINITY;

  /** `maximum` >= 1. */
  constructor(maximum: number) {
    assert(Number.isInteger(maximum) && maximum >= 1);
    this.#maximum = maximum;
    this.#limit = Math.min(FIRST_LIMIT, maximum);
  }

  /** 1 to the maximum. */
  get all(): number {
    return this.#limit;
  }

  /**
   * The part of `all` that read-ahead may have: three quarters, so that a demand read finds a
   * place; but one at least, since otherwise nothing were read ahead, for ever, at a limit of one.
   */
  get readAhead(): number {
    return Math.max(1, Math.floor((this.#limit * 3) / 4));
  }

  /** The part of `readAhead` that the background may have, so that both go on. */
  get background(): number {
    return Math.max(1, Math.floor(this.#limit / 2));
  }

  /**
   * One of them has begun to bring bytes: twice as many for each round trip, as long as nothing
   * has told how many are too many.
   */
  answered(): void {
    if (!this.#wasCut) this.#limit = Math.min(this.#limit + 1, this.#maximum);
  }

  /** One is whole: one more for each window of them, where it is known what is too many. */
  succeeded(): void {
    this.#successes += 1;
    if (!this.#wasCut || this.#successes < this.#limit) return;
    this.#successes = 0;
    this.#limit = Math.min(this.#limit + 1, this.#maximum);
  }

  overloaded(nowMs: number): void {
    if (nowMs - this.#cutAtMs < CUT_EVERY_MS) return;
    this.#cutAtMs = nowMs;
    this.#wasCut = true;
    this.#successes = 0;
    this.#limit = Math.max(1, Math.floor(this.#limit / 2));
  }
}
