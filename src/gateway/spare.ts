/**
 * Owns: the spare: one prepared server process (node up, addon loaded, hello said), which makes
 * `connect` and a recovery short.
 * Runs in: the controller; `connect --foreground` has none, one device does not cost two processes.
 * Must not: keep one without devices, hand out one that does not answer, or try a launch that fails
 * again and again.
 */
import { endUnused, type ReadyProcess } from './launch-for-device.ts';

const PING_TIMEOUT_MS = 1_000;
/** A script that ends one device often begins the next. */
const LINGER_MS = 10_000;
const RETRY_MS = 30_000;

export interface Spares {
  /** A spare that answers, also one whose launch is under way; undefined where there is none. */
  take(): Promise<ReadyProcess | undefined>;
  /** Makes it one, or none; to be called when the number of devices may have changed. */
  balance(): void;
  /** Ends the spare, also one whose launch is under way: it may be of an older version. */
  refresh(): void;
  /** Ends the spare; none comes after it. */
  close(): void;
}

export const NO_SPARES: Spares = {
  take: async () => undefined,
  balance: () => undefined,
  refresh: () => undefined,
  close: () => undefined,
};

export class SpareKeeper implements Spares {
  readonly #launch: () => Promise<ReadyProcess>;
  readonly #isWanted: () => boolean;
  readonly #nowMs: () => number;
  #spare: ReadyProcess | undefined;
  #launching: Promise<void> | undefined;
  #isClosed = false;
  #generation = 0;
  #notBeforeMs = 0;
  #wantedAtMs = 0;

  constructor(
    launch: () => Promise<ReadyProcess>,
    isWanted: () => boolean,
    nowMs = () => performance.now(),
  ) {
    this.#launch = launch;
    this.#isWanted = isWanted;
    this.#nowMs = nowMs;
  }

  async take(): Promise<ReadyProcess | undefined> {
    // Two launches at once would take longer than the one that has begun.
    await this.#launching;
    const spare = this.#spare;
    this.#spare = undefined;
    if (spare === undefined) return undefined;
    try {
      await spare.peer.request('ping', null, { timeoutMs: PING_TIMEOUT_MS });
      return spare;
    } catch {
      endUnused(spare);
      return undefined;
    }
  }

  balance(): void {
    if (this.#isClosed) return;
    if (this.#spare?.peer.isClosed === true) this.#drop();
    const nowMs = this.#nowMs();
    if (this.#isWanted()) {
      this.#wantedAtMs = nowMs;
      const isMissing = this.#spare === undefined && this.#launching === undefined;
      if (isMissing && nowMs >= this.#notBeforeMs) this.#launching = this.#prepare();
    } else if (nowMs - this.#wantedAtMs >= LINGER_MS) {
      this.#drop();
    }
  }

  refresh(): void {
    this.#generation += 1;
    this.#drop();
  }

  close(): void {
    this.#isClosed = true;
    this.#drop();
  }

  async #prepare(): Promise<void> {
    const generation = this.#generation;
    try {
      this.#spare = await this.#launch();
      if (this.#isClosed || generation !== this.#generation) this.#drop();
    } catch {
      // The log has its last words; a device then waits for a launch of its own.
      this.#notBeforeMs = this.#nowMs() + RETRY_MS;
    } finally {
      this.#launching = undefined;
    }
  }

  #drop(): void {
    if (this.#spare !== undefined) endUnused(this.#spare);
    this.#spare = undefined;
  }
}
