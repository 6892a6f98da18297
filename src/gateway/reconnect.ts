/**
 * Owns: the way back to a backend that was lost: hold, attempts with back-off, the identity gate,
 * the replay of what was not flushed, and then the queues' new connections.
 * Runs in: the server process, on the JS main thread.
 * Must not: let a queue send before the gate is passed and the log is replayed, or decide how long
 * requests wait: the queues' own timers do.
 */
import type { BackendInfo } from '../protocols/adapter.ts';
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import type { NbdExport } from '../protocols/nbd/handshake.ts';
import { type DeviceNeeds, judgeIdentity } from '../protocols/nbd/identity.ts';
import { sameExport } from '../protocols/nbd/same-export.ts';
import { BackOff } from './back-off.ts';

/** A backend that breaks the protocol so often will go on to. */
const MAXIMUM_VIOLATIONS = 3;
const VIOLATION_WINDOW_MS = 60_000;

/** One connection past its handshake. */
export interface Connection<Stream> {
  readonly stream: Stream;
  readonly found: NbdExport;
}

export interface Replayed {
  readonly entries: number;
  readonly bytes: bigint;
}

/** What a reconnect works with; the server process implements it. */
export interface ReconnectLinks<Stream extends { close(): void }> {
  /** Cuts the old connections; resolves when nothing of them reaches the queues any more. */
  hold(): Promise<void>;
  /** Dials and shakes hands within its own limit of time. */
  connect(): Promise<Connection<Stream>>;
  /** Of the content, or undefined where it cannot be read or is not wanted. */
  fingerprint(connection: Connection<Stream>): Promise<string | undefined>;
  /** Sends what was acknowledged and never flushed again, in order, and awaits the answers. */
  replay(connection: Connection<Stream>): Promise<Replayed>;
  /** Hands the connections to the queues, which send again what is in flight. */
  resume(streams: readonly Stream[], found: NbdExport): void;
  told(news: ReconnectNews): void;
}

export type ReconnectNews =
  | { readonly kind: 'holding'; readonly reason: string }
  | { readonly kind: 'attempt-failed'; readonly reason: string }
  | { readonly kind: 'note'; readonly text: string }
  | {
      readonly kind: 'connected';
      readonly replayed: Replayed;
      /** From the loss to the hand-over of the new connections, ms. */
      readonly tookMs: number;
      /** Of an export that is larger than the device. */
      readonly grownTo: bigint | undefined;
    }
  | { readonly kind: 'fatal'; readonly reason: string };

export type ConnectedNews = Extract<ReconnectNews, { kind: 'connected' }>;

export interface Original {
  readonly needs: DeviceNeeds;
  readonly info: BackendInfo;
  /** Of a read-only export, where it could be read when the device was made. */
  readonly fingerprint: string | undefined;
}

export class Reconnect<Stream extends { close(): void }> {
  readonly #links: ReconnectLinks<Stream>;
  #original: Original;
  readonly #ended = new AbortController();
  #violations: number[] = [];
  #running = false;

  constructor(links: ReconnectLinks<Stream>, original: Original) {
    this.#links = links;
    this.#original = original;
  }

  /** A connection was lost; further losses during an attempt belong to it. */
  lost(kind: 'backend-lost' | 'protocol-violation', reason: string, nowMs: number): void {
    if (this.#ended.signal.aborted) return;
    if (kind === 'protocol-violation' && this.#isOneTooMany(nowMs)) {
      const times = `${MAXIMUM_VIOLATIONS} times in ${VIOLATION_WINDOW_MS / 1000} s`;
      this.#fail(`the backend broke the protocol ${times}: ${reason}`);
      return;
    }
    if (this.#running) return;
    this.#running = true;
    this.#links.told({ kind: 'holding', reason });
    void this.#run(performance.now()).finally(() => {
      this.#running = false;
    });
  }

  /** No further attempt is made, and one that is under way hands nothing over. */
  end(): void {
    this.#ended.abort();
  }

  /** The device has followed its export, and needs so much of it from here on. */
  grew(sizeBytes: bigint): void {
    const { needs } = this.#original;
    this.#original = { ...this.#original, needs: { ...needs, sizeBytes } };
  }

  async #run(lostAtMs: number): Promise<void> {
    await this.#links.hold();
    const backOff = new BackOff();
    for (;;) {
      if (this.#ended.signal.aborted) return;
      try {
        const done = await this.#attempt();
        if (done === undefined) return;
        const tookMs = Math.round(performance.now() - lostAtMs);
        this.#links.told({ kind: 'connected', ...done, tookMs });
        return;
      } catch (error) {
        this.#links.told({ kind: 'attempt-failed', reason: asGatewayError(error).message });
      }
      await backOff.wait({ signal: this.#ended.signal });
    }
  }

  /** Undefined: the device has ended, or is FATAL. Rejects when another attempt may help. */
  async #attempt(): Promise<Pick<ConnectedNews, 'replayed' | 'grownTo'> | undefined> {
    const connections: Connection<Stream>[] = [];
    try {
      const first = await this.#open(connections);
      if (!(await this.#passesGate(first))) return undefined;
      const replayed = await this.#links.replay(first);
      if (this.#ended.signal.aborted) return undefined;
      const streams = connections.splice(0).map(({ stream }) => stream);
      this.#links.resume(streams, first.found);
      const { sizeBytes } = first.found.info;
      const isGrown = sizeBytes > this.#original.needs.sizeBytes;
      return { replayed, grownTo: isGrown ? sizeBytes : undefined };
    } finally {
      for (const { stream } of connections) stream.close();
    }
  }

  async #open(connections: Connection<Stream>[]): Promise<Connection<Stream>> {
    const first = await this.#links.connect();
    connections.push(first);
    if (judge(this.#original, first.found).kind === 'other') return first;
    while (connections.length < this.#original.needs.queues) {
      const next = await this.#links.connect();
      connections.push(next);
      const difference = sameExport(first.found, next.found);
      if (difference !== undefined) {
        const text = `its connections reach different exports: ${difference}`;
        throw new GatewayError('UNBD_EXPORT_UNUSABLE', text);
      }
    }
    return first;
  }

  /** False: FATAL. */
  async #passesGate(first: Connection<Stream>): Promise<boolean> {
    const verdict = judge(this.#original, first.found);
    if (verdict.kind === 'other') {
      this.#fail(verdict.reason);
      return false;
    }
    const { fingerprint: expected } = this.#original;
    const found = expected === undefined ? undefined : await this.#links.fingerprint(first);
    if (found !== expected && found !== undefined) {
      this.#fail("the backend's read-only export has another content now (ESTALE)");
      return false;
    }
    for (const text of verdict.notes) this.#links.told({ kind: 'note', text });
    if (found !== expected) {
      const text = 'the content of the export could not be checked: a sample cannot be read';
      this.#links.told({ kind: 'note', text });
    }
    return true;
  }

  #isOneTooMany(nowMs: number): boolean {
    const since = nowMs - VIOLATION_WINDOW_MS;
    this.#violations = [...this.#violations.filter((atMs) => atMs > since), nowMs];
    return this.#violations.length >= MAXIMUM_VIOLATIONS;
  }

  #fail(reason: string): void {
    this.end();
    this.#links.told({ kind: 'fatal', reason });
  }
}

function judge({ needs, info }: Original, found: NbdExport): ReturnType<typeof judgeIdentity> {
  return judgeIdentity(needs, info, found.info);
}
