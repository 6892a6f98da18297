/**
 * Owns: the order in which waiting reads start: the urgent lane, the read-ahead one, the
 * background; first come first served within a lane.
 * Runs in: any process; pure.
 * Must not: know how many may run, or why a read waits.
 */
import assert from 'node:assert';

/** What can wait in a lane. `urgent` changes while it waits by `Lanes.promote` alone. */
export interface Waiting {
  urgent: boolean;
  /** Where it waits as long as it is not urgent. */
  readonly background?: boolean;
  /** Its place within a lane, from `Lanes.nextOrder`; a lower one starts first. */
  order: number;
}

export interface LanesOpen {
  readonly readAhead: boolean;
  readonly background: boolean;
}

export class Lanes<Item extends Waiting> {
  #urgent: Item[] = [];
  #readAhead: Item[] = [];
  #background: Item[] = [];
  #order = 0;

  get size(): number {
    return this.#urgent.length + this.#readAhead.length + this.#background.length;
  }

  /** The place behind everything that has one. */
  nextOrder(): number {
    this.#order += 1;
    return this.#order;
  }

  /** By its order: one that comes back after a failed attempt stands where it stood. */
  add(item: Item): void {
    const lane = this.#laneOf(item);
    assert(!lane.includes(item), 'it waits already');
    const at = lane.findLastIndex(({ order }) => order < item.order) + 1;
    lane.splice(at, 0, item);
  }

  /** Takes the next one out; those that nobody waits for only from the lanes that may start. */
  take({ readAhead, background }: LanesOpen): Item | undefined {
    return (
      this.#urgent.shift() ??
      (readAhead ? this.#readAhead.shift() : undefined) ??
      (background ? this.#background.shift() : undefined)
    );
  }

  /**
   * Makes `item` urgent, waiting or not; behind those that are urgent already, since they have
   * been waited for longer.
   */
  promote(item: Item): void {
    if (item.urgent) return;
    const wasHere = this.remove(item);
    item.urgent = true;
    item.order = this.nextOrder();
    if (wasHere) this.add(item);
  }

  /** False: it was not here. */
  remove(item: Item): boolean {
    const lane = this.#laneOf(item);
    const at = lane.indexOf(item);
    if (at >= 0) lane.splice(at, 1);
    return at >= 0;
  }

  #laneOf({ urgent, background }: Item): Item[] {
    if (urgent) return this.#urgent;
    return background ? this.#background : this.#readAhead;
  }
}
