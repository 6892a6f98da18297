/**
 * Owns: the identity gate: whether what answers after a reconnect is still the export that the
 * device was made of, and what may have changed.
 * Runs in: server processes, on the JS main thread; pure.
 * Must not: let a device go on with another image, or call a harmless change a fault.
 */
import type { BackendInfo } from '../adapter.ts';

/** What the device needs of its backend for as long as it lives. */
export interface DeviceNeeds {
  readonly sizeBytes: bigint;
  readonly readOnly: boolean;
  readonly logicalBlockBytes: number;
  readonly queues: number;
}

export type Verdict =
  /** `notes`: what is different and does no harm, for the log. `grown`: beyond the device. */
  | { readonly kind: 'same'; readonly notes: readonly string[]; readonly grown: boolean }
  | { readonly kind: 'other'; readonly reason: string };

/** `before` is the export as it was when the device was made. */
export function judgeIdentity(needs: DeviceNeeds, before: BackendInfo, now: BackendInfo): Verdict {
  const reason = fatalDifference(needs, before, now);
  if (reason !== undefined) return { kind: 'other', reason };
  const grown = now.sizeBytes > needs.sizeBytes;
  return { kind: 'same', notes: harmlessDifferences(needs, before, now), grown };
}

/** What no device survives; undefined where there is nothing of the kind. */
function fatalDifference(
  needs: DeviceNeeds,
  before: BackendInfo,
  now: BackendInfo,
): string | undefined {
  if (now.sizeBytes < needs.sizeBytes) {
    return `the backend's export is smaller now: ${now.sizeBytes} of ${needs.sizeBytes} bytes`;
  }
  if (now.minimumBlockBytes > needs.logicalBlockBytes) {
    const sizes = `${now.minimumBlockBytes} bytes, above the device's ${needs.logicalBlockBytes}`;
    return `the backend's minimum block size is ${sizes} now`;
  }
  if (needs.queues > 1 && !now.readOnly && !now.canMultiConn) {
    return `the backend allows one connection now (no CAN_MULTI_CONN), not ${needs.queues}`;
  }
  if (needs.readOnly) return undefined;
  if (now.readOnly) return "the backend's export is read-only now";
  if (before.canFlush && !now.canFlush) return 'the backend cannot FLUSH any more';
  return undefined;
}

function harmlessDifferences(
  needs: DeviceNeeds,
  before: BackendInfo,
  now: BackendInfo,
): readonly string[] {
  const notes: string[] = [];
  if (needs.readOnly) return notes;
  if (before.canFua && !now.canFua) notes.push('no FUA any more: a FLUSH takes its place');
  if (before.canTrim && !now.canTrim) notes.push('no TRIM any more: discards are refused');
  if (before.canWriteZeroes && !now.canWriteZeroes) {
    notes.push('no WRITE_ZEROES any more: the kernel writes zeroes instead');
  }
  return notes;
}
