/**
 * Owns: how long to wait before a range is asked for again: growing pauses with full jitter, and
 * the budget of early retries.
 * Runs in: any process; pure.
 * Must not: wait, or decide whether another attempt is worth it.
 */

const FIRST_PAUSE_MS = 100;
const LAST_PAUSE_MS = 5_000;
/** What an origin may ask for at most (Retry-After): a wrong date there must not stop a device. */
const RETRY_AFTER_MS_MAX = 60_000;

/** In tenths of a token, which add up exactly. */
const BUDGET_TENTHS = 100;
const RETRY_TENTHS = 10;
const SUCCESS_TENTHS = 1;

export interface PauseWish {
  /** What the origin asked for, ms. */
  readonly retryAfterMs?: number | undefined;
  /** How long `retryAfterMs` may make the pause, ms; Infinity: up to its own maximum. */
  readonly limitMs: number;
  /** Not before the longest pause is over. */
  readonly isLongest?: boolean;
}

/**
 * Full jitter: anything from 0 to a bound that doubles, so that many clients of one origin, which
 * lost it at the same moment, do not come back at the same moment.
 */
export class RetryPause {
  readonly #random: () => number;
  #boundMs = FIRST_PAUSE_MS;

  /** `random` gives 0 to 1. */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** The next pause, ms; its bound is twice as high each time, up to 5 s. */
  next({ retryAfterMs = 0, limitMs, isLongest = false }: PauseWish): number {
    const jitterMs = isLongest ? LAST_PAUSE_MS : this.#boundMs * this.#random();
    this.#boundMs = Math.min(this.#boundMs * 2, LAST_PAUSE_MS);
    return Math.max(jitterMs, Math.min(retryAfterMs, RETRY_AFTER_MS_MAX, limitMs));
  }

  reset(): void {
    this.#boundMs = FIRST_PAUSE_MS;
  }
}

/**
 * Retries at an origin that works may be a tenth of what succeeds, and ten more: one that refuses
 * because it has too much to do must not get more to do for that.
 */
export class RetryBudget {
  #tenths = BUDGET_TENTHS;

  /** False: it is spent. */
  take(): boolean {
    if (this.#tenths < RETRY_TENTHS) return false;
    this.#tenths -= RETRY_TENTHS;
    return true;
  }

  succeeded(): void {
    this.#tenths = Math.min(this.#tenths + SUCCESS_TENTHS, BUDGET_TENTHS);
  }
}
