/**
 * Owns: whether two handshakes reached the same export: further connections of a device must agree
 * with the first.
 * Runs in: server processes, on the JS main thread; pure.
 * Must not: forgive a difference; what may differ is decided by the caller.
 */
import type { BackendInfo } from '../adapter.ts';
import type { NbdExport } from './info.ts';

/** In the order in which they matter to the user. */
const COMPARED: readonly (readonly [keyof BackendInfo, string])[] = [
  ['sizeBytes', 'size'],
  ['readOnly', 'read-only flag'],
  ['minimumBlockBytes', 'minimum block size'],
  ['preferredBlockBytes', 'preferred block size'],
  ['maximumBlockBytes', 'maximum block size'],
  ['canFlush', 'FLUSH support'],
  ['canFua', 'FUA support'],
  ['canTrim', 'TRIM support'],
  ['canWriteZeroes', 'WRITE_ZEROES support'],
  ['canFastZero', 'FAST_ZERO support'],
  ['canMultiConn', 'CAN_MULTI_CONN flag'],
  ['rotational', 'rotational flag'],
];

/** Undefined, or the first difference: `its size was 1048576 and is now 2097152`. */
export function sameExport(first: NbdExport, other: NbdExport): string | undefined {
  for (const [field, label] of COMPARED) {
    const difference = differ(label, first.info[field], other.info[field]);
    if (difference !== undefined) return difference;
  }
  return (
    differ('structured reply support', first.structuredReplies, other.structuredReplies) ??
    differ('name', first.name ?? '', other.name ?? '')
  );
}

function differ<T>(label: string, before: T, after: T): string | undefined {
  return before === after ? undefined : `its ${label} was ${before} and is now ${after}`;
}
