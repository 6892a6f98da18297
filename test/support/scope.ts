/**
 * Owns: what a test has to undo at its end, in reverse order, its own folder, and what its programs
 * can say when it fails.
 * Runs in: test processes.
 * Must not: stop at the first failure; every clean-up runs, and the first error is reported at the
 * end.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export class Scope {
  readonly #cleanups: (() => Promise<void> | void)[] = [];
  readonly #witnesses: (() => string | undefined)[] = [];
  #folder: string | undefined;

  /** Adds a clean-up; those added last run first. */
  defer(cleanup: () => Promise<void> | void): void {
    this.#cleanups.push(cleanup);
  }

  /** `tell` is asked when the test has failed, before anything is undone. */
  onFailure(tell: () => string | undefined): void {
    this.#witnesses.push(tell);
  }

  /** The lines of all who have something to say. */
  testimony(): string[] {
    return this.#witnesses.flatMap((tell) => tell()?.split('\n') ?? []);
  }

  /** A path in the test's own folder, which goes with the scope. */
  path(name: string): string {
    if (this.#folder === undefined) {
      const folder = mkdtempSync(join(tmpdir(), 'unbd-'));
      this.#folder = folder;
      // A controller that had its run folder here may write to it until it is idle.
      const options = { recursive: true, force: true, maxRetries: 10, retryDelay: 100 };
      this.#cleanups.unshift(() => rmSync(folder, options));
    }
    return join(this.#folder, name);
  }

  async close(): Promise<void> {
    const errors: unknown[] = [];
    for (const cleanup of this.#cleanups.splice(0).reverse()) {
      try {
        await cleanup();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}
