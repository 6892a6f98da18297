/**
 * Owns: direct I/O, some requests at once, that leaves this process free: what is behind the device
 * may be in it.
 * Runs in: device test processes.
 * Must not: share a buffer between requests that run at once.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { alignedMemory } from './direct-file.ts';

/** Offset and length are of whole sectors. */
export interface Range {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export class DirectDisk {
  readonly #plain: FileHandle;
  /** Each write asks for FUA. */
  readonly #durable: FileHandle;
  readonly #buffers: Buffer[];

  private constructor(plain: FileHandle, durable: FileHandle, buffers: Buffer[]) {
    this.#plain = plain;
    this.#durable = durable;
    this.#buffers = buffers;
  }

  /** For so many requests at once, each as long as `longestBytes` at most. */
  static async open(path: string, atOnce: number, longestBytes: number): Promise<DirectDisk> {
    const flags = constants.O_RDWR | constants.O_DIRECT;
    const buffers = Array.from({ length: atOnce }, () => alignedMemory(longestBytes));
    const plain = await open(path, flags);
    return new DirectDisk(plain, await open(path, flags | constants.O_DSYNC), buffers);
  }

  /** What is there of the range; shorter where the disk ends. */
  read({ offsetBytes, lengthBytes }: Range): Promise<Buffer> {
    return this.#withBuffer(async (buffer) => {
      buffer.fill(0xa5, 0, lengthBytes);
      const { bytesRead } = await this.#plain.read(buffer, 0, lengthBytes, offsetBytes);
      return Buffer.from(buffer.subarray(0, bytesRead));
    });
  }

  /** How many bytes were written; rejects with the system's error. */
  write(offsetBytes: number, bytes: Buffer, how: 'plain' | 'durable' = 'plain'): Promise<number> {
    return this.#withBuffer(async (buffer) => {
      buffer.set(bytes);
      const file = how === 'plain' ? this.#plain : this.#durable;
      return (await file.write(buffer, 0, bytes.length, offsetBytes)).bytesWritten;
    });
  }

  async sync(): Promise<void> {
    await this.#plain.sync();
  }

  async close(): Promise<void> {
    await this.#plain.close();
    await this.#durable.close();
  }

  async #withBuffer<T>(use: (buffer: Buffer) => Promise<T>): Promise<T> {
    const buffer = this.#buffers.pop();
    if (buffer === undefined) throw new Error('more requests at once than were announced');
    try {
      return await use(buffer);
    } finally {
      this.#buffers.push(buffer);
    }
  }
}

/** The errno name that a promise rejects with, `none` when it resolves. */
export async function errorOfAsync(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'none';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}
