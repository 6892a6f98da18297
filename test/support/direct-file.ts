/**
 * Owns: direct I/O from this process: one request of ours is one or more of the device, and no
 * cache answers.
 * Runs in: device test processes.
 * Must not: hand out a buffer that the next request changes; what is returned is a copy.
 */
import assert from 'node:assert/strict';
import { closeSync, constants, fsyncSync, openSync, readSync, writeSync } from 'node:fs';

/** Part of the language, but its types come with the DOM's only. */
declare const WebAssembly: {
  readonly Memory: new (descriptor: { initial: number }) => { readonly buffer: ArrayBuffer };
};

const WASM_PAGE_BYTES = 65_536;

/** Memory that starts on a page, which direct I/O wants and Buffer does not promise. */
export function alignedMemory(lengthBytes: number): Buffer {
  const initial = Math.ceil(lengthBytes / WASM_PAGE_BYTES);
  return Buffer.from(new WebAssembly.Memory({ initial }).buffer);
}

export class DirectFile {
  #file: number | undefined;
  readonly #memory: Buffer;

  /** `flags` beside O_DIRECT; O_DSYNC makes every write one that asks for FUA. */
  constructor(path: string, flags = constants.O_RDWR, longestBytes = 4 * 1024 * 1024) {
    this.#file = openSync(path, flags | constants.O_DIRECT);
    this.#memory = alignedMemory(longestBytes);
  }

  /** Throws the system's error, such as EIO. */
  read(offsetBytes: number, lengthBytes: number): Buffer {
    this.#memory.fill(0xa5, 0, lengthBytes);
    const count = readSync(this.#open(), this.#memory, 0, lengthBytes, offsetBytes);
    assert.equal(count, lengthBytes, `read of ${lengthBytes} bytes at ${offsetBytes}`);
    return Buffer.from(this.#memory.subarray(0, lengthBytes));
  }

  write(offsetBytes: number, bytes: Buffer): void {
    this.#memory.set(bytes);
    const count = writeSync(this.#open(), this.#memory, 0, bytes.length, offsetBytes);
    assert.equal(count, bytes.length, `write of ${bytes.length} bytes at ${offsetBytes}`);
  }

  sync(): void {
    fsyncSync(this.#open());
  }

  /** A second close does nothing. */
  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #open(): number {
    assert(this.#file !== undefined, 'the file is open');
    return this.#file;
  }
}

/** The errno name that `action` fails with, `none` when it succeeds. */
export function errorOf(action: () => unknown): string {
  try {
    action();
    return 'none';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}
