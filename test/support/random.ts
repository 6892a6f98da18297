/**
 * Owns: numbers that look random and are the same again for the same seed.
 * Runs in: test processes.
 * Must not: take anything but the seed into account.
 */
export type Random = (below: number) => number;

/** Whole numbers in [0, below), by mulberry32: small, good enough to choose what a test does. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
