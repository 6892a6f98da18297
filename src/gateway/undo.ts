/**
 * Owns: a sequence of named steps that is done as a whole or not at all.
 * Runs in: the controller and `connect --foreground`.
 * Must not: leave a finished step in place when a later one failed or the caller interrupted.
 */
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import { unlessAborted } from '../protocols/unless-aborted.ts';

export class Steps {
  readonly #signal: AbortSignal;
  readonly #onStep: (name: string) => void;
  readonly #onUndoFailed: (name: string, error: GatewayError) => void;
  readonly #undos: { readonly name: string; readonly undo: () => Promise<void> | void }[] = [];

  constructor(
    signal: AbortSignal,
    onStep: (name: string) => void,
    onUndoFailed: (name: string, error: GatewayError) => void,
  ) {
    this.#signal = signal;
    this.#onStep = onStep;
    this.#onUndoFailed = onUndoFailed;
  }

  /**
   * Runs one step. One that rejects has left nothing behind of its own; one that resolves is taken
   * back by `undo` when the sequence fails. Throws UNBD_INTERRUPTED instead of beginning a step
   * after an abort.
   */
  async run<T>(
    name: string,
    action: () => Promise<T> | T,
    undo?: (value: T) => Promise<void> | void,
  ): Promise<T> {
    this.#throwIfInterrupted();
    this.#onStep(name);
    const value = await action();
    if (undo !== undefined) this.#undos.push({ name, undo: () => undo(value) });
    return value;
  }

  /** For a step that can simply be left alone: rejects at once on an abort. */
  async runUnlessInterrupted<T>(name: string, action: () => Promise<T>): Promise<T> {
    return this.run(name, () => unlessAborted(action(), this.#signal));
  }

  /** How far the step is that goes on. */
  tell(text: string): void {
    this.#onStep(text);
  }

  #throwIfInterrupted(): void {
    if (this.#signal.aborted) throw new GatewayError('UNBD_INTERRUPTED', 'interrupted');
  }

  /**
   * Takes back what is done, last first. One undo that fails is reported and does not stop the
   * others.
   */
  async undoAll(): Promise<void> {
    for (let entry = this.#undos.pop(); entry !== undefined; entry = this.#undos.pop()) {
      try {
        await entry.undo();
      } catch (error) {
        this.#onUndoFailed(entry.name, asGatewayError(error));
      }
    }
  }
}
