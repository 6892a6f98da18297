/**
 * Owns: work of which one of a kind runs at a time: who wants it meanwhile gets what that brings.
 * Runs in: any process.
 * Must not: keep what it brought.
 */
export class OneAtATime<T> {
  readonly #running = new Map<string, Promise<T>>();

  /** `begin` is called unless work of this `kind` runs. */
  run(kind: string, begin: () => Promise<T>): Promise<T> {
    const running = this.#running.get(kind);
    if (running !== undefined) return running;
    const begun = begin();
    this.#running.set(kind, begun);
    const forget = (): void => void this.#running.delete(kind);
    begun.then(forget, forget);
    return begun;
  }
}
