/**
 * Owns: what a disk has to answer: every byte that was written, and where a discard leaves a choice
 * both answers.
 * Runs in: test processes.
 * Must not: look at the disk.
 */
import assert from 'node:assert/strict';
import type { Range } from './direct-disk.ts';

export const SECTOR_BYTES = 512;

export class ReferenceDisk {
  readonly #bytes: Buffer;
  /** Sectors that read as they were or as zeroes, until somebody reads or writes them. */
  readonly #discarded = new Set<number>();

  /** `bytes` are copied. */
  constructor(bytes: Buffer) {
    assert(bytes.length % SECTOR_BYTES === 0);
    this.#bytes = Buffer.from(bytes);
  }

  get sizeBytes(): number {
    return this.#bytes.length;
  }

  wrote(offsetBytes: number, bytes: Buffer): void {
    this.#settle({ offsetBytes, lengthBytes: bytes.length });
    this.#bytes.set(bytes, offsetBytes);
  }

  /** A discard is a hint (linux/blkdev.h): each sector is dropped or kept. */
  discarded(range: Range): void {
    for (const sector of sectorsOf(range)) this.#discarded.add(sector);
  }

  /** Throws unless `bytes` may be what is there; a discarded sector stays as it was read. */
  check(offsetBytes: number, bytes: Buffer): void {
    const range = { offsetBytes, lengthBytes: bytes.length };
    for (const sector of sectorsOf(range)) {
      if (!this.#discarded.has(sector)) continue;
      const at = sector * SECTOR_BYTES - offsetBytes;
      const isZero = bytes.subarray(at, at + SECTOR_BYTES).every((byte) => byte === 0);
      const from = sector * SECTOR_BYTES;
      if (isZero) this.#bytes.fill(0, from, from + SECTOR_BYTES);
    }
    this.#settle(range);
    const wanted = this.#bytes.subarray(offsetBytes, offsetBytes + bytes.length);
    if (wanted.equals(bytes)) return;
    const at = bytes.findIndex((byte, n) => byte !== wanted[n]);
    const what = `${bytes[at]} and not ${wanted[at]}`;
    assert.fail(`${bytes.length} bytes at ${offsetBytes}: byte ${offsetBytes + at} is ${what}`);
  }

  #settle(range: Range): void {
    if (this.#discarded.size === 0) return;
    for (const sector of sectorsOf(range)) this.#discarded.delete(sector);
  }
}

function sectorsOf({ offsetBytes, lengthBytes }: Range): number[] {
  assert(offsetBytes % SECTOR_BYTES === 0 && lengthBytes % SECTOR_BYTES === 0);
  return Array.from(
    { length: lengthBytes / SECTOR_BYTES },
    (_, n) => offsetBytes / SECTOR_BYTES + n,
  );
}
