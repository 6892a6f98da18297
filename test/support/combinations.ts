/**
 * Owns: which combinations of backend, transport and filesystem are tested where.
 * Runs in: device test processes and the unit test of it.
 * Must not: leave out a backend; that every pair is there is tested.
 */
import { isFull, isLeast } from './amount.ts';
import type { Transport } from './backends.ts';
import { BACKEND_KINDS, type BackendKind } from './disks.ts';
import type { FilesystemKind } from './filesystem.ts';

export interface Combination {
  readonly backend: BackendKind;
  readonly transport: Transport;
  readonly filesystem: FilesystemKind;
}

/**
 * The first half's transport and filesystem, backend by backend; the second half has the others.
 */
const FIRST_HALF: readonly (readonly [Transport, FilesystemKind])[] = [
  ['tcp', 'ext4'],
  ['tcp', 'xfs'],
  ['unix', 'xfs'],
  ['unix', 'ext4'],
  ['tcp', 'ext4'],
];

/**
 * Every backend with every transport and every filesystem, every transport with every filesystem.
 */
export function pairwiseHalf(half: 0 | 1): Combination[] {
  return BACKEND_KINDS.map((backend, n) => {
    const [transport, filesystem] = FIRST_HALF[n] ?? ['tcp', 'ext4'];
    if (half === 0) return { backend, transport, filesystem };
    return {
      backend,
      transport: transport === 'tcp' ? 'unix' : 'tcp',
      filesystem: filesystem === 'ext4' ? 'xfs' : 'ext4',
    };
  });
}

export function allCombinations(): Combination[] {
  return BACKEND_KINDS.flatMap((backend) =>
    (['tcp', 'unix'] as const).flatMap((transport) =>
      (['ext4', 'xfs'] as const).map((filesystem) => ({ backend, transport, filesystem })),
    ),
  );
}

/**
 * What this boot tests: `UBLK_NBD_TEST_HALF` is 0 or 1 where another boot tests the other half. Of
 * the least the halves have every backend once between them.
 */
export function chosenCombinations(): Combination[] {
  if (isFull) return allCombinations();
  const half = process.env.UBLK_NBD_TEST_HALF;
  if (half === '0' || half === '1') {
    const chosen = pairwiseHalf(half === '0' ? 0 : 1);
    return isLeast ? chosen.filter((_, n) => n % 2 === Number(half)) : chosen;
  }
  return [...pairwiseHalf(0), ...pairwiseHalf(1)];
}
