/**
 * Owns: which targets are objects that a store reads by ranges.
 * Runs in: any process; pure.
 * Must not: know how one of them is read.
 */
import type { ObjectTarget, Target } from './adapter.ts';

export function isObjectTarget(target: Target): target is ObjectTarget {
  return target.kind === 'http' || target.kind === 's3';
}
