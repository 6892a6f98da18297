/**
 * Owns: a clock that a test moves by hand, and the timers on it.
 * Runs in: unit tests.
 * Must not: wait.
 */
import type { Clock } from '../../src/protocols/source/clock.ts';

interface Timer {
  readonly atMs: number;
  readonly call: () => void;
}

/** Lets everything run that does not wait for a timer. */
export async function settled(): Promise<void> {
  await new Promise(setImmediate);
}

export class FakeClock implements Clock {
  /** What `random` gives; 1 makes every pause as long as its bound. */
  chance = 1;
  #nowMs = 1_000_000;
  readonly #timers = new Set<Timer>();

  readonly now = (): number => this.#nowMs;
  readonly random = (): number => this.chance;
  readonly timer = (afterMs: number, call: () => void): (() => void) => {
    const timer = { atMs: this.#nowMs + afterMs, call };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  };

  /** Timers that have neither fired nor been taken back. */
  get timers(): number {
    return this.#timers.size;
  }

  /** Fires what falls due within `byMs` in order, and what that sets. */
  async advance(byMs: number): Promise<void> {
    const endMs = this.#nowMs + byMs;
    for (;;) {
      await settled();
      const due = [...this.#timers].filter(({ atMs }) => atMs <= endMs);
      const next = due.sort((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.call();
    }
    this.#nowMs = endMs;
  }
}
