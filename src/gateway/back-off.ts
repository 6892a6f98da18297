/**
 * Owns: the pauses between attempts to reach a backend.
 * Runs in: server processes, on the JS main thread.
 * Must not: decide whether another attempt is worth it.
 */
import { setTimeout as delay } from 'node:timers/promises';

const FIRST_WAIT_MS = 100;
const LAST_WAIT_MS = 5_000;
/** Each wait is shortened by up to this part of it, so that many clients do not come at once. */
const JITTER = 0.3;

export class BackOff {
  #waitMs = FIRST_WAIT_MS;

  /** At most `limitMs`, and no longer than until the abort; twice as long each time. */
  async wait({ limitMs = LAST_WAIT_MS, signal }: { limitMs?: number; signal?: AbortSignal }) {
    const waitMs = this.#waitMs * (1 - JITTER * Math.random());
    this.#waitMs = Math.min(this.#waitMs * 2, LAST_WAIT_MS);
    const options = signal === undefined ? {} : { signal };
    await delay(Math.min(waitMs, limitMs), undefined, options).catch(() => {});
  }
}
