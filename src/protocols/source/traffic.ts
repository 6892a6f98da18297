/**
 * Owns: how many requests an origin got, and how soon the bodies of its answers began.
 * Runs in: server processes, on the JS main thread; pure.
 * Must not: grow with the number of requests, or outlive the process: it tells how it goes now.
 */
import assert from 'node:assert';
import type { SourceTraffic } from '../adapter.ts';

const FIRST_BOUND_MS = 0.1;
/** Bounds are 9 % apart: what is told is right to about as much. */
const BUCKETS_PER_DOUBLING = 8;
/** The last bound is above 27 minutes; what takes longer counts as that. */
const BUCKETS = 24 * BUCKETS_PER_DOUBLING;

export class Traffic implements SourceTraffic {
  requests = 0;
  readonly #firstBytes = new Uint32Array(BUCKETS);
  #samples = 0;

  /** A request was sent, be it a second attempt or one after a redirect. */
  sent(): void {
    this.requests += 1;
  }

  /** The first byte of a body that was wanted came so long after its request was sent, ms. */
  began(afterMs: number): void {
    const doublings = Math.log2(Math.max(afterMs, FIRST_BOUND_MS) / FIRST_BOUND_MS);
    const bucket = Math.min(Math.ceil(doublings * BUCKETS_PER_DOUBLING), BUCKETS - 1);
    this.#firstBytes[bucket] = (this.#firstBytes[bucket] ?? 0) + 1;
    this.#samples += 1;
  }

  firstByteMs(quantile: number): number | undefined {
    assert(quantile > 0 && quantile <= 1);
    if (this.#samples === 0) return undefined;
    let left = Math.ceil(this.#samples * quantile);
    const bucket = this.#firstBytes.findIndex((count) => {
      left -= count;
      return left <= 0;
    });
    const ms = FIRST_BOUND_MS * 2 ** (bucket / BUCKETS_PER_DOUBLING);
    return Number(ms.toPrecision(3));
  }
}
