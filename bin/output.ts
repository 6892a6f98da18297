/**
 * Owns: how values look to people (tables, sizes) and to machines (JSON).
 * Runs in: the CLI.
 * Must not: print; it makes text and the caller decides where it goes.
 */
import { oneLine } from '../src/protocols/errors.ts';

const UNITS = ['K', 'M', 'G', 'T', 'P', 'E'] as const;

/** Bytes as lsblk(8) shows them, powers of 1024: `512B`, `64M`, `1.5G`. */
export function humanSize(bytes: bigint | number): string {
  let value = Number(bytes);
  if (value < 1024) return `${value}B`;
  let unit = -1;
  do {
    value /= 1024;
    unit += 1;
    // What would be printed as 1024K is printed as 1M.
  } while (Math.round(value * 10) >= 10_240 && unit < UNITS.length - 1);
  return `${Math.round(value * 10) / 10}${UNITS[unit]}`;
}

/** Rows under a header, padded to the widest cell; text from outside becomes one safe line. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, ...rows].map((row) => row.map((cell) => oneLine(cell)));
  const widths = header.map((_, column) =>
    Math.max(...lines.map((line) => (line[column] ?? '').length)),
  );
  const text = lines.map((line) =>
    line
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  return text.join('\n');
}

/** `name  value` lines, names padded to the widest. */
export function fields(pairs: readonly (readonly [string, string])[], indent = ''): string {
  const width = Math.max(...pairs.map(([name]) => name.length));
  return pairs
    .map(([name, value]) => `${indent}${name.padEnd(width)}  ${oneLine(value)}`.trimEnd())
    .join('\n');
}

/**
 * One line of JSON. A bigint is a number while a double holds it exactly, a decimal string beyond;
 * a reader's BigInt() takes both.
 */
export function json(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) => {
    if (typeof item !== 'bigint') return item;
    const exact = item <= Number.MAX_SAFE_INTEGER && item >= Number.MIN_SAFE_INTEGER;
    return exact ? Number(item) : item.toString();
  });
}
