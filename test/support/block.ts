/**
 * Owns: what a test asks of a block device: its limits, its bytes without the page cache.
 * Runs in: device test processes, as root.
 * Must not: open a device without O_DIRECT where a claim is about what the device answers.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { must, type Outcome, run, shell } from './process.ts';

export const KIB = 1024;
export const MIB = 1024 * 1024;

/** A text from /sys/block/NODE/…, such as `queue/write_cache`. */
export function sysfsText(node: string, attribute: string): string {
  return readFileSync(`/sys/block/${node}/${attribute}`, 'utf8').trim();
}

/** A number from /sys/block/NODE/…, such as `queue/logical_block_size` or `ro`. */
export function sysfsNumber(node: string, attribute: string): number {
  return Number(sysfsText(node, attribute));
}

/** What `blockdev OPTION DEVICE` prints, as a number. */
export async function blockdevNumber(option: string, path: string): Promise<number> {
  return Number(await must(['blockdev', option, path]));
}

/** dd's outcome; tests look at its status and at what it says of the error. */
export function dd(...operands: readonly string[]): Promise<Outcome> {
  return run(['dd', 'status=none', ...operands]);
}

/** A claim has its own limit; a device may wait for its backend while it is compared. */
const COMPARISON_LIMIT_MS = 3_600_000;

/**
 * The file or device at `path` has just the bytes of `expected`, a path or the bytes themselves. No
 * digest: that would take an emulated processor a minute for 128 MiB.
 */
export async function assertSameBytes(path: string, expected: string | Buffer): Promise<void> {
  if (typeof expected === 'string') {
    await must(['cmp', path, expected], { timeoutMs: COMPARISON_LIMIT_MS });
  } else {
    assert((await readFile(path)).equals(expected), `${path} has the bytes that it should have`);
  }
}

/**
 * Bytes that tell their offset: each 8 of them are their own position, as nbdkit's pattern has it.
 */
export function patternBytes(offsetBytes: number, lengthBytes: number): Buffer {
  assert(offsetBytes % 8 === 0 && lengthBytes % 8 === 0);
  const bytes = Buffer.alloc(lengthBytes);
  for (let at = 0; at < lengthBytes; at += 8) {
    bytes.writeBigUInt64BE(BigInt(offsetBytes + at), at);
  }
  return bytes;
}

/** A file of `lengthBytes` with different bytes in every block; `seed` makes two of them differ. */
export async function makeImage(path: string, lengthBytes: number, seed = 1): Promise<void> {
  const file = await open(path, 'w');
  const chunk = Buffer.alloc(MIB);
  try {
    for (let offset = 0; offset < lengthBytes; offset += MIB) {
      for (let at = 0; at < MIB; at += 8) chunk.writeBigUInt64BE(BigInt((offset + at) * seed), at);
      const length = Math.min(MIB, lengthBytes - offset);
      await file.write(chunk, 0, length, offset);
    }
  } finally {
    await file.close();
  }
}

/** Forgets clean pages, so that the next read reaches the device. */
export function dropCaches(): Promise<string> {
  return shell('sync; echo 3 >/proc/sys/vm/drop_caches');
}
