/**
 * Owns: a Source whose every attempt a test lets land, succeed or fail; and a steady one over it.
 * Runs in: unit tests.
 * Must not: judge.
 */
import type { Source, SourceRead } from '../../src/protocols/adapter.ts';
import type { ErrorCode } from '../../src/protocols/errors.ts';
import type { SourceEvent } from '../../src/protocols/source/hold.ts';
import { SourceError, type SourceErrorOptions } from '../../src/protocols/source/source-error.ts';
import { SteadySource } from '../../src/protocols/source/steady-source.ts';
import { FakeClock, settled } from './fake-clock.ts';
import { backend } from './fake-host.ts';

/** The byte at `offset` of every scripted object. */
export function byteAt(offset: number): number {
  return (offset * 7 + 3) % 251;
}

/** One call of the source's `read`. */
export class Attempt {
  readonly read: SourceRead;
  readonly done: Promise<void>;
  isOpen = true;
  #settle: (error?: Error) => void = () => undefined;

  /** `isDeaf`: an abort does not end it. */
  constructor(read: SourceRead, isDeaf: boolean) {
    this.read = read;
    this.done = new Promise((resolve, reject) => {
      this.#settle = (error) => {
        this.isOpen = false;
        if (error === undefined) resolve();
        else reject(error);
      };
    });
    if (isDeaf) return;
    const stopped = new SourceError('UNBD_INTERRUPTED', 'stopped by its signal');
    read.signal.addEventListener('abort', () => this.#settle(stopped));
  }

  land(bytes: number): void {
    const { into, offsetBytes } = this.read;
    const there = new Uint8Array(bytes);
    for (let at = 0; at < bytes; at += 1) there[at] = byteAt(offsetBytes + at);
    into.set(there, 0);
    this.read.landed(bytes);
  }

  async succeed(): Promise<void> {
    this.land(this.read.into.length);
    this.#settle();
    await settled();
  }

  async resolveOnly(): Promise<void> {
    this.#settle();
    await settled();
  }

  async fail(code: ErrorCode, options: SourceErrorOptions = {}): Promise<void> {
    await this.failWith(new SourceError(code, `failed by ${code}`, options));
  }

  async failWith(error: Error): Promise<void> {
    this.#settle(error);
    await settled();
  }
}

export class ScriptedSource implements Source {
  readonly info = backend;
  readonly identity;
  readonly attempts: Attempt[] = [];
  isDeaf = false;
  closes = 0;

  constructor(sizeBytes: bigint) {
    this.identity = { sizeBytes, etag: '"1"', lastModified: '' };
  }

  read(read: SourceRead): Promise<void> {
    const attempt = new Attempt(read, this.isDeaf);
    this.attempts.push(attempt);
    return attempt.done;
  }

  async close(): Promise<void> {
    this.closes += 1;
  }

  get open(): Attempt[] {
    return this.attempts.filter(({ isOpen }) => isOpen);
  }

  /** The offsets of all attempts, in order. */
  get offsets(): number[] {
    return this.attempts.map(({ read }) => read.offsetBytes);
  }

  /** The latest attempt. */
  get last(): Attempt {
    const last = this.attempts.at(-1);
    if (last === undefined) throw new Error('nothing was asked for');
    return last;
  }
}

export interface Asked {
  readonly read: SourceRead;
  readonly into: Uint8Array;
  /** What `landed` was told. */
  readonly landed: number[];
  /** `waiting`, `done`, or the code of what it rejected with. */
  outcome: string;
  abort(): void;
}

export function steady(options: { holdMs?: number; maximumParallel?: number; size?: bigint } = {}) {
  const { holdMs = 60_000, size = 1n << 30n, ...rest } = options;
  const clock = new FakeClock();
  const source = new ScriptedSource(size);
  const events: SourceEvent[] = [];
  const { now, random, timer } = clock;
  const told = (event: SourceEvent) => void events.push(event);
  const subject = new SteadySource(source, { holdMs, now, random, timer, told, ...rest });
  const ask = (
    offsetBytes: number,
    { urgent = true, background = false, lengthBytes = 4096 } = {},
  ): Asked => {
    const aborter = new AbortController();
    const into = new Uint8Array(lengthBytes);
    const landed: number[] = [];
    const { signal } = aborter;
    const landing = (n: number) => void landed.push(n);
    const read = { offsetBytes, into, urgent, background, signal, landed: landing };
    const asked: Asked = { read, into, landed, outcome: 'waiting', abort: () => aborter.abort() };
    subject.read(read).then(
      () => {
        asked.outcome = 'done';
      },
      (error) => {
        asked.outcome = error instanceof SourceError ? error.code : String(error);
      },
    );
    return asked;
  };
  const states = () => events.map(({ state }) => state);
  return { subject, clock, source, events, states, ask };
}
