/**
 * Owns: sizes as people write them: `1048576`, `1024K`, `1M`, in binary units.
 * Runs in: any process; pure.
 * Must not: guess what a text without a meaning means.
 */
const UNITS: readonly string[] = ['', 'K', 'M', 'G', 'T'];

/** In bytes; undefined where it is no size. */
export function readSize(text: string): bigint | undefined {
  const match = /^([0-9]{1,19})([KMGT]?)$/i.exec(text);
  if (match?.[1] === undefined) return undefined;
  const unit = UNITS.indexOf((match[2] ?? '').toUpperCase());
  return BigInt(match[1]) << BigInt(10 * unit);
}

/** In the largest unit that it is a multiple of. */
export function formatSize(sizeBytes: bigint): string {
  let unit = 0;
  let value = sizeBytes;
  while (unit < UNITS.length - 1 && value % 1024n === 0n) {
    value /= 1024n;
    unit += 1;
  }
  return `${value}${UNITS[unit]}`;
}
