/**
 * Owns: whether the origin is there: the states CONNECTED, HOLDING, FAILING and FATAL, the hold's
 * clock, and the gate that lets one attempt through per pause while it holds.
 * Runs in: any process.
 * Must not: read, or know the reads.
 */
import type { Clock } from './clock.ts';
import { RetryPause } from './retry-pause.ts';
import { SourceError } from './source-error.ts';

export type SourceState = 'CONNECTED' | 'HOLDING' | 'FAILING' | 'FATAL';

export interface SourceEvent {
  readonly state: SourceState;
  /** One line, without a secret. */
  readonly text: string;
}

export interface HoldLinks {
  told(event: SourceEvent): void;
  /** FAILING or FATAL: every read rejects with `error`. */
  refuse(error: SourceError): void;
  /** The gate has opened. */
  ready(): void;
}

export class Hold {
  /** Of the attempts while the origin is away. */
  readonly pauses: RetryPause;

  readonly #holdMs: number;
  readonly #clock: Clock;
  readonly #links: HoldLinks;
  #state: SourceState = 'CONNECTED';
  #refusal: SourceError | undefined;
  #reason = '';
  #lostAtMs = 0;
  #isGateOpen = true;
  #stopClock: () => void = () => undefined;
  #stopGate: () => void = () => undefined;

  /** `holdMs`: -1 for ever, 0 not at all. */
  constructor(holdMs: number, clock: Clock, links: HoldLinks) {
    this.#holdMs = holdMs < 0 ? Number.POSITIVE_INFINITY : holdMs;
    this.#clock = clock;
    this.#links = links;
    this.pauses = new RetryPause(clock.random);
  }

  get state(): SourceState {
    return this.#state;
  }

  /** What reads reject with while it is FAILING or FATAL. */
  get refusal(): SourceError | undefined {
    return this.#refusal;
  }

  /** While it holds: the pause after the last attempt is over. */
  get isGateOpen(): boolean {
    return this.#isGateOpen;
  }

  /** Until the hold ends, ms; its whole length while there is none; may be Infinity. */
  get leftMs(): number {
    if (this.#state !== 'HOLDING') return this.#holdMs;
    return Math.max(0, this.#lostAtMs + this.#holdMs - this.#clock.now());
  }

  /** The origin is away, by what a read found; nothing unless CONNECTED. */
  lost(reason: string): void {
    if (this.#state !== 'CONNECTED') return;
    this.#lostAtMs = this.#clock.now();
    this.#reason = reason;
    this.pauses.reset();
    if (this.#holdMs === 0) {
      this.#fail();
      return;
    }
    this.#state = 'HOLDING';
    if (Number.isFinite(this.#holdMs)) {
      this.#stopClock = this.#clock.timer(this.#holdMs, () => this.#fail());
    }
    this.#links.told({ state: 'HOLDING', text: reason });
  }

  /** An attempt has failed: `reason` is the latest one, and the gate is shut for `pauseMs`. */
  shut(pauseMs: number, reason: string): void {
    this.#reason = reason;
    this.#isGateOpen = false;
    this.#stopGate();
    this.#stopGate = this.#clock.timer(pauseMs, () => {
      this.#isGateOpen = true;
      this.#links.ready();
    });
  }

  /** The origin answers; `waiting` reads have waited for that. Nothing unless it was away. */
  answered(waiting: number): void {
    if (this.#state !== 'HOLDING' && this.#state !== 'FAILING') return;
    this.end();
    this.#state = 'CONNECTED';
    this.#refusal = undefined;
    const tookMs = Math.round(this.#clock.now() - this.#lostAtMs);
    const reads = `${waiting} ${waiting === 1 ? 'read' : 'reads'}`;
    const text = `the backend answers again after ${tookMs} ms, ${reads} had waited`;
    this.#links.told({ state: 'CONNECTED', text });
  }

  /** Another object is there now: for ever. */
  changed(error: SourceError): void {
    if (this.#state === 'FATAL') return;
    this.end();
    this.#refuse('FATAL', error, `${error.message} (ESTALE)`);
  }

  /** Leaves no timer. */
  end(): void {
    this.#stopClock();
    this.#stopGate();
    this.#isGateOpen = true;
  }

  #fail(): void {
    this.end();
    const text =
      this.#holdMs === 0
        ? this.#reason
        : `the backend did not come back within ${this.#holdMs / 1000} s: ${this.#reason}`;
    this.#refuse('FAILING', new SourceError('UNBD_BACKEND_IO', text), text);
  }

  #refuse(state: 'FAILING' | 'FATAL', error: SourceError, text: string): void {
    this.#state = state;
    this.#refusal = error;
    this.#links.refuse(error);
    this.#links.told({ state, text });
  }
}
