/**
 * Owns: reading what may vanish while it is looked at: /sys entries of a disk that goes away.
 * Runs in: any process.
 * Must not: ask first whether something is there; the answer is old when it comes.
 */
import { readdirSync, readFileSync } from 'node:fs';

/** Undefined where it is not there, or not any more. */
export function readIfThere(path: string): string | undefined {
  return unlessGone(() => readFileSync(path, 'utf8'));
}

/** Empty where the folder is not there, or not any more. */
export function entriesIfThere(folder: string): readonly string[] {
  return unlessGone(() => readdirSync(folder)) ?? [];
}

function unlessGone<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // ENODEV: an attribute whose device went between open and read.
    if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO') return undefined;
    throw error;
  }
}
