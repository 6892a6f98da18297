/**
 * Owns: a place for what is read that lies in memory in pieces, and is one to who writes to it.
 * Runs in: any process; pure.
 * Must not: copy what it is given anywhere else; its pieces belong to who made it.
 */
import assert from 'node:assert';
import type { Place } from '../adapter.ts';

export class PlaceInPieces implements Place {
  readonly length: number;
  readonly #pieces: readonly Uint8Array[];

  /** At least one piece, and none of them empty. */
  constructor(pieces: readonly Uint8Array[]) {
    assert(pieces.length > 0 && pieces.every(({ length }) => length > 0));
    this.#pieces = pieces;
    this.length = pieces.reduce((sum, { length }) => sum + length, 0);
  }

  set(bytes: Uint8Array, atBytes: number): void {
    assert(atBytes >= 0 && bytes.length <= this.length - atBytes, 'it is within');
    let rest = bytes;
    let within = atBytes;
    for (const piece of this.#pieces) {
      if (rest.length === 0) return;
      const fits = piece.length - within;
      if (fits > 0) {
        piece.set(rest.length > fits ? rest.subarray(0, fits) : rest, within);
        rest = rest.subarray(fits);
      }
      within = Math.max(0, -fits);
    }
  }

  /** From so many bytes on, at most `length - 1`. */
  subarray(fromBytes: number): Place {
    let skip = fromBytes;
    const pieces = this.#pieces.flatMap((piece) => {
      const rest = piece.subarray(skip);
      skip = Math.max(0, skip - piece.length);
      return rest.length === 0 ? [] : [rest];
    });
    return new PlaceInPieces(pieces);
  }
}
