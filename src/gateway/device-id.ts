/**
 * Owns: which device numbers are taken, and the choice of one.
 * Runs in: the controller and `connect --foreground`.
 * Must not: be the last word: ADD_DEV is, with EEXIST.
 */
import { existsSync, readdirSync } from 'node:fs';

const CHAR_CLASS = '/sys/class/ublk-char';

/** Ids of every device that the driver has, ours or not. */
export function driverIds(): Set<number> {
  if (!existsSync(CHAR_CLASS)) return new Set();
  const ids = readdirSync(CHAR_CLASS).map((name) => /^ublkc(\d+)$/.exec(name)?.[1]);
  return new Set(ids.filter((id) => id !== undefined).map(Number));
}

/** The lowest id from `from` up that is in none of the sets. */
export function lowestFreeId(from: number, ...taken: readonly ReadonlySet<number>[]): number {
  let id = from;
  while (taken.some((ids) => ids.has(id))) id += 1;
  return id;
}
