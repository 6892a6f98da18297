/**
 * Owns: what the sources know of time and chance, so that a test can give both.
 * Runs in: any process.
 * Must not: keep state.
 */

/** Node fires a longer timer at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;

export interface Clock {
  /** Monotonic, ms. */
  now(): number;
  /** 0 to 1. */
  random(): number;
  /** Calls once after `afterMs` (up to 24 days); what it returns takes that back. */
  timer(afterMs: number, call: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  random: () => Math.random(),
  timer: (afterMs, call) => {
    const handle = setTimeout(call, Math.min(afterMs, TIMER_MS_MAX));
    return () => clearTimeout(handle);
  },
};
