/**
 * Owns: strings from a backend, made safe for messages, tables and logs.
 * Runs in: any process; pure.
 * Must not: let through control characters, or those that reorder or hide text.
 */
import { oneLine } from '../errors.ts';

/** UTF-8 from the wire, at most `limit` characters; what is not UTF-8 shows as U+FFFD. */
export function textFromWire(bytes: Buffer, limit = 4096): string {
  return oneLine(bytes.toString('utf8').replace(/\p{Cf}/gu, ''), limit);
}

/** A name in a message: quoted, at most 100 characters. */
export function quoted(name: string): string {
  return `"${oneLine(name.replace(/\p{Cf}/gu, ''), 100)}"`;
}
