/**
 * Owns: the disk of a scripted backend that forgets: what clients write is in memory alone until a
 * FLUSH, or FUA, brings it into a file; a kill of the process loses the rest.
 * Runs in: test processes.
 * Must not: write anything to the file before it is asked to; that would hide a loss.
 */
import { openSync, readFileSync, writeSync } from 'node:fs';
import type { Request } from './scripted-nbd-transmission.ts';
import { CMD, CMD_FLAG } from './scripted-nbd-wire.ts';

const BLOCK_BYTES = 512;

export class ForgetfulDisk {
  /** What clients see. */
  readonly image: Buffer;
  readonly #file: number;
  readonly #unflushedBlocks = new Set<number>();

  constructor(path: string) {
    this.image = readFileSync(path);
    this.#file = openSync(path, 'r+');
  }

  /** A request has changed the image, or asks for what has. */
  carriedOut({ command, flags, offset, lengthBytes }: Request): void {
    if (command === CMD.read) return;
    if (command === CMD.flush) {
      for (const block of this.#unflushedBlocks) this.#keep(block);
      this.#unflushedBlocks.clear();
      return;
    }
    const end = Number(offset) + lengthBytes;
    for (let at = Number(offset); at < end; at += BLOCK_BYTES - (at % BLOCK_BYTES)) {
      const block = Math.floor(at / BLOCK_BYTES);
      if ((flags & CMD_FLAG.fua) !== 0) this.#keep(block);
      else this.#unflushedBlocks.add(block);
    }
  }

  #keep(block: number): void {
    writeSync(this.#file, this.image, block * BLOCK_BYTES, BLOCK_BYTES, block * BLOCK_BYTES);
  }
}
