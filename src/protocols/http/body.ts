/**
 * Owns: what is made of the body of an answer as it comes: the range that was asked for, a part of
 * everything where the origin sends no ranges, or the text of a refusal.
 * Runs in: server processes and the CLI, on the JS main thread.
 * Must not: keep more than it was given a place for.
 */
import type { Place, SourceRead } from '../adapter.ts';

export interface Body {
  /** No byte more and none less, unless it is `enough` before; undefined: whatever comes. */
  readonly lengthBytes: number | undefined;
  /** The next piece, which begins at so many bytes of the body. */
  take(piece: Uint8Array, atBytes: number): 'more' | 'enough';
}

/** All of it goes to `into`. */
export function placed({
  into,
  landed,
}: {
  readonly into: Place;
  landed(bytes: number): void;
}): Body {
  return {
    lengthBytes: into.length,
    take: (piece, atBytes) => {
      into.set(piece, atBytes);
      landed(atBytes + piece.length);
      return 'more';
    },
  };
}

/** Of what an origin says about why it refuses. */
const MAXIMUM_HEARD_BYTES = 64 * 1024;

export class Heard implements Body {
  readonly lengthBytes = undefined;
  readonly #pieces: Buffer[] = [];
  #leftBytes = MAXIMUM_HEARD_BYTES;

  /** Copies: what it is a part of may be larger by far. */
  take(piece: Uint8Array): 'more' | 'enough' {
    this.#pieces.push(Buffer.from(piece.subarray(0, this.#leftBytes)));
    this.#leftBytes = Math.max(0, this.#leftBytes - piece.length);
    return this.#leftBytes === 0 ? 'enough' : 'more';
  }

  /** Latin-1, cut off at 64 KiB. */
  get text(): string {
    return Buffer.concat(this.#pieces).toString('latin1');
  }
}

/** The part of the whole object that `read` wants; what comes after that is not waited for. */
export function partOfWhole(read: SourceRead, lengthBytes: number): Body {
  const { offsetBytes, into } = read;
  const endBytes = offsetBytes + into.length;
  return {
    lengthBytes,
    take: (piece, atBytes) => {
      const from = Math.max(offsetBytes, atBytes);
      const to = Math.min(endBytes, atBytes + piece.length);
      if (from < to) {
        into.set(piece.subarray(from - atBytes, to - atBytes), from - offsetBytes);
        read.landed(to - offsetBytes);
      }
      return to === endBytes ? 'enough' : 'more';
    },
  };
}
