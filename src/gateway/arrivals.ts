/**
 * Owns: the match between server processes that were launched and those that say hello.
 * Runs in: the controller and `connect --foreground`.
 * Must not: accept a token twice.
 */
import type { Arrivals as ArrivalsOfHost } from './host.ts';
import type { Peer } from './rpc.ts';

export class Arrivals implements ArrivalsOfHost {
  readonly #expected = new Map<string, (peer: Peer) => void>();

  expect(token: string): Promise<Peer> {
    return new Promise((resolve) => this.#expected.set(token, resolve));
  }

  forget(token: string): void {
    this.#expected.delete(token);
  }

  /** False when nobody waits for this token. */
  arrived(token: string, peer: Peer): boolean {
    const resolve = this.#expected.get(token);
    if (resolve === undefined) return false;
    this.#expected.delete(token);
    resolve(peer);
    return true;
  }
}
