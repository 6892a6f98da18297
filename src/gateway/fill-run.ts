/**
 * Owns: which fills of a store one read of the source brings, where its bytes go, and what of it
 * ends which of them.
 * Runs in: the server process, on the JS main thread; pure, but for the clock.
 * Must not: read, or report.
 */
import assert from 'node:assert/strict';
import type { Place } from '../protocols/adapter.ts';
import { MAXIMUM_PARALLEL } from '../protocols/source/parallel-limit.ts';
import { PlaceInPieces } from '../protocols/source/place.ts';
import type { StoreFill } from './native-store.ts';

/** Each request costs a round trip, in which its connection does nothing: of a wide window few. */
export const MAXIMUM_RUN_BYTES = 4 * 1024 * 1024;
const LEAST_BOUND_BYTES = 1024 * 1024;
const COLD_AFTER_MS = 5_000;

/**
 * The most that one read should bring. A connection begins slowly, and again after it was idle
 * (RFC 5681, 3.1 and 4.1); what is asked of such a one is late as a whole. So it is about what each
 * of them has carried lately.
 */
export class RunBound {
  readonly #now: () => number;
  #bytes = 0;
  #atMs = 0;

  constructor(now = () => performance.now()) {
    this.#now = now;
  }

  brought(bytes: number): void {
    this.#bytes = this.#warmBytes + bytes;
    this.#atMs = this.#now();
  }

  get bytes(): number {
    const eachBytes = this.#warmBytes / MAXIMUM_PARALLEL;
    return Math.min(MAXIMUM_RUN_BYTES, Math.max(LEAST_BOUND_BYTES, eachBytes));
  }

  get #warmBytes(): number {
    return this.#now() - this.#atMs > COLD_AFTER_MS ? 0 : this.#bytes;
  }
}

function goesOn(last: StoreFill, next: StoreFill): boolean {
  return (
    !last.urgent &&
    !next.urgent &&
    last.background === next.background &&
    last.offsetBytes + last.lengthBytes === next.offsetBytes
  );
}

/**
 * Joins fills that nobody waits for yet and that go on in the object where the one before ends. All
 * else stays alone and in its place, as a promotion that follows its fill must. A run of more than
 * one is of `boundBytes` at most.
 */
export function runsOf(fills: readonly StoreFill[], boundBytes: number): StoreFill[][] {
  const runs: StoreFill[][] = [];
  let bytes = 0;
  for (const fill of fills) {
    const run = runs.at(-1);
    const last = run?.at(-1);
    const isRead = fill.kind === 'read' && last?.kind === 'read';
    const fits = bytes + fill.lengthBytes <= boundBytes;
    if (run !== undefined && last !== undefined && isRead && fits && goesOn(last, fill)) {
      run.push(fill);
      bytes += fill.lengthBytes;
    } else {
      runs.push([fill]);
      bytes = fill.lengthBytes;
    }
  }
  return runs;
}

/** Where a run goes: chunks that were evicted one by one leave places that lie anywhere. */
export function placeOf(run: readonly StoreFill[], arena: ArrayBuffer): Place {
  const pieces: { offsetBytes: number; lengthBytes: number }[] = [];
  for (const { arenaOffsetBytes: offsetBytes, lengthBytes } of run) {
    const last = pieces.at(-1);
    if (last !== undefined && last.offsetBytes + last.lengthBytes === offsetBytes) {
      last.lengthBytes += lengthBytes;
    } else {
      pieces.push({ offsetBytes, lengthBytes });
    }
  }
  const [first, ...others] = pieces.map(
    ({ offsetBytes, lengthBytes }) => new Uint8Array(arena, offsetBytes, lengthBytes),
  );
  assert(first !== undefined, 'a run is of fills');
  return others.length === 0 ? first : new PlaceInPieces([first, ...others]);
}

/** What has landed of each fill of a run that has not ended. */
export class FillProgress {
  readonly lengthBytes: number;
  readonly #fills: readonly StoreFill[];
  #ended = 0;
  /** Of the fills that have ended. */
  #endedBytes = 0;
  #landedBytes = 0;

  constructor(fills: readonly StoreFill[]) {
    this.#fills = fills;
    this.lengthBytes = fills.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
  }

  /**
   * So many bytes of the run are there. Calls `report` once for each fill of which that is news,
   * the whole of it last; but the last byte of the run is held back for `end`.
   */
  landed(bytes: number, report: (fill: StoreFill, landedBytes: number) => void): void {
    this.#landedBytes = bytes;
    for (;;) {
      const fill = this.#fills[this.#ended];
      const ofFill = bytes - this.#endedBytes;
      if (fill === undefined || ofFill <= 0) return;
      if (ofFill < fill.lengthBytes) {
        report(fill, ofFill);
        return;
      }
      if (this.#ended === this.#fills.length - 1) return;
      this.#ended += 1;
      this.#endedBytes += fill.lengthBytes;
      report(fill, fill.lengthBytes);
    }
  }

  /** The fills that have not ended, and what has landed of each; of a run that `isWhole` all. */
  rest(isWhole: boolean): (readonly [fill: StoreFill, landedBytes: number])[] {
    let landedBytes = this.#landedBytes - this.#endedBytes;
    return this.#fills.slice(this.#ended).map((fill) => {
      const ofFill = isWhole ? fill.lengthBytes : Math.min(landedBytes, fill.lengthBytes);
      landedBytes = Math.max(0, landedBytes - fill.lengthBytes);
      return [fill, ofFill] as const;
    });
  }
}
