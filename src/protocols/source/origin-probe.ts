/**
 * Owns: asking an origin, that reads have given up on, whether it is back.
 * Runs in: any process.
 * Must not: use the buffer of a read, or have two attempts under way.
 */
import type { Source } from '../adapter.ts';
import type { Clock } from './clock.ts';
import type { RetryPause } from './retry-pause.ts';
import { SourceError } from './source-error.ts';

const PROBE_BYTES = 512;

export interface ProbeLinks {
  /** It has given the first bytes of the object; the probe has ended. */
  answered(): void;
  /** A final error; the probe has ended. */
  changed(error: SourceError): void;
}

export class OriginProbe {
  readonly #source: Source;
  readonly #clock: Clock;
  readonly #pauses: RetryPause;
  readonly #links: ProbeLinks;
  /** Of the probe that goes on. */
  #run: AbortController | undefined;
  #endPause: () => void = () => undefined;

  /** `pauses` goes on from where the attempts before it were. */
  constructor(source: Source, clock: Clock, pauses: RetryPause, links: ProbeLinks) {
    this.#source = source;
    this.#clock = clock;
    this.#pauses = pauses;
    this.#links = links;
  }

  /** The first attempt is made after a pause; nothing while it goes on already. */
  start(): void {
    if (this.#run !== undefined) return;
    this.#run = new AbortController();
    this.#pause(this.#run);
  }

  /** No link is called any more. */
  stop(): void {
    this.#endPause();
    this.#run?.abort();
    this.#run = undefined;
  }

  #pause(run: AbortController, retryAfterMs?: number): void {
    const pauseMs = this.#pauses.next({ retryAfterMs, limitMs: Number.POSITIVE_INFINITY });
    this.#endPause = this.#clock.timer(pauseMs, () => void this.#attempt(run));
  }

  async #attempt(run: AbortController): Promise<void> {
    const { sizeBytes } = this.#source.identity;
    const lengthBytes = sizeBytes < BigInt(PROBE_BYTES) ? Number(sizeBytes) : PROBE_BYTES;
    let failure: unknown;
    try {
      await this.#source.read({
        offsetBytes: 0,
        into: new Uint8Array(lengthBytes),
        urgent: true,
        signal: run.signal,
        landed: () => undefined,
      });
    } catch (thrown) {
      failure = thrown;
    }
    if (this.#run !== run) return;
    const error = failure instanceof SourceError ? failure : undefined;
    if (failure !== undefined && !error?.isFinal) {
      this.#pause(run, error?.retryAfterMs);
      return;
    }
    this.#run = undefined;
    if (error === undefined) this.#links.answered();
    else this.#links.changed(error);
  }
}
