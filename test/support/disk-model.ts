/**
 * Owns: what a disk may answer after its backend has forgotten what was not flushed.
 * Runs in: test processes.
 * Must not: look at the disk; it knows what was acknowledged, and by what.
 */
export class DiskModel {
  readonly #acknowledged: Map<number, number>;
  #flushed: Map<number, number>;

  constructor(blocks: number) {
    this.#acknowledged = new Map(Array.from({ length: blocks }, (_, block) => [block, 0]));
    this.#flushed = new Map(this.#acknowledged);
  }

  /** A write of `content` was acknowledged. */
  wrote(block: number, content: number): void {
    this.#acknowledged.set(block, content);
  }

  /** A flush of all that was acknowledged was acknowledged. */
  flushed(): void {
    this.#flushed = new Map(this.#acknowledged);
  }

  /** The content of each block where nothing that was acknowledged is lost. */
  get whole(): ReadonlyMap<number, number> {
    return this.#acknowledged;
  }

  /** The same where all that was not flushed is gone. */
  get forgotten(): ReadonlyMap<number, number> {
    return this.#flushed;
  }
}
