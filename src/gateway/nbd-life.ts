/**
 * Owns: an NBD device's life across connections: what its queues do while the backend is away, the
 * log of unflushed writes, the reconnect, and what of it is told.
 * Runs in: the server process, on the JS main thread.
 * Must not: touch a request; the queues hold, replay and fail them.
 */
import assert from 'node:assert/strict';
import type { BackendInfo } from '../protocols/adapter.ts';
import { readFingerprint } from '../protocols/nbd/fingerprint.ts';
import type { NbdExport } from '../protocols/nbd/handshake.ts';
import type { TransportStream } from './dial.ts';
import { log } from './log.ts';
import { type ConnectOptions, DEFAULT_RECONNECT_DELAY_MS } from './messages.ts';
import type { AdapterSpec, Addon, NbdConnections, Queues, QueuesEvent } from './native.ts';
import { openLog, unflushedPolicy } from './open-log.ts';
import {
  type ConnectedNews,
  type Connection,
  Reconnect,
  type ReconnectNews,
  type Replayed,
} from './reconnect.ts';
import type { BackendEvent, StartArgument, UnflushedWrites } from './server-messages.ts';
import type { UnflushedLog } from './unflushed-log.ts';

/** A replay without progress for so long is lost. */
const REPLAY_TIMEOUT_MS = 10_000;
const FINGERPRINT_TIMEOUT_MS = 10_000;
const NOTHING: Replayed = { entries: 0, bytes: 0n };

export class NbdLife {
  readonly #device: StartArgument;
  readonly #options: ConnectOptions;
  /** The export as it was when the device was made. */
  readonly #info: BackendInfo;
  readonly #told: (event: BackendEvent) => void;
  readonly #reconnect: Reconnect<TransportStream>;
  readonly #log: UnflushedLog | undefined;
  readonly #inDoubt: boolean;
  /** A successor that begins without one has lost nothing. */
  #hadBackend: boolean;
  #sizeBytes: bigint;
  #queues: Queues | undefined;
  #epoch = 0;
  #lastNote = '';
  /** What the last resume is to be told with, once every queue has said what it sent again. */
  #resuming: { left: number; requests: number; news: ConnectedNews } | undefined;

  constructor(
    addon: Addon,
    device: StartArgument,
    connect: () => Promise<Connection<TransportStream>>,
    told: (event: BackendEvent) => void,
  ) {
    const { record, queueCount: queues, sizeBytes, readOnly } = device;
    const { backend, shape, fingerprint } = record;
    assert(backend !== undefined && shape !== undefined, 'the device was added');
    this.#device = device;
    this.#options = record.options;
    this.#info = backend;
    this.#hadBackend = !device.recovery;
    this.#sizeBytes = sizeBytes;
    this.#told = told;
    const { opened, isLost } = openLog(addon, device);
    this.#log = opened;
    this.#inDoubt = isLost;
    const needs = { sizeBytes, readOnly, logicalBlockBytes: shape.logicalBlockBytes, queues };
    const links = {
      hold: () => this.#running().hold(),
      connect,
      fingerprint: async ({ stream, found }: Connection<TransportStream>) =>
        readFingerprint(stream, found, FINGERPRINT_TIMEOUT_MS),
      replay: (connection: Connection<TransportStream>) => this.#replay(connection),
      resume: (streams: readonly TransportStream[], found: NbdExport) =>
        this.#running().resume(this.#connections(found, streams)),
      told: (news: ReconnectNews) => this.#news(news),
    };
    this.#reconnect = new Reconnect(links, { needs, info: backend, fingerprint });
  }

  adapter(found: NbdExport, streams: readonly TransportStream[]): AdapterSpec {
    const { readOnly } = this.#device;
    const options = this.#options;
    const unflushed = unflushedPolicy(options);
    return {
      kind: 'nbd',
      readOnly,
      reconnectDelayMs: this.#delayMs,
      holdDeadlineMs: this.#holdLeftMs(),
      requestTimeoutMs: options.requestTimeoutMs ?? 0,
      unflushed: this.#log === undefined && unflushed === 'replay' ? 'fail-flush' : unflushed,
      inDoubt: this.#inDoubt,
      durableWrites: options.durability === 'fua',
      resendWrites: options.resendWrites !== false,
      ...this.#connections(found, streams),
      ...(this.#log === undefined ? {} : { log: this.#log }),
    };
  }

  /** For a successor: its queues hold. */
  adapterWithoutBackend(): AdapterSpec {
    const found = { info: this.#info, structuredReplies: false, transmissionFlags: 0 };
    return this.adapter(found, []);
  }

  /** The queues serve; those of a successor look for their backend. */
  started(queues: Queues): void {
    this.#queues = queues;
    if (!this.#device.recovery) return;
    this.#reconnect.lost('backend-lost', 'a successor took over', performance.now());
  }

  queuesTold({ kind, text }: QueuesEvent): void {
    if (kind === 'backend-lost' || kind === 'protocol-violation') {
      this.#reconnect.lost(kind, text, performance.now());
    } else if (kind === 'hold-expired') {
      this.#told({ state: 'FAILING', text: 'the backend did not come back in time' });
    } else if (kind === 'resumed') {
      this.#resumed(Number(text));
    } else if (kind === 'stopped') {
      this.end();
      this.#log?.unlink();
      this.#log?.close();
    }
  }

  end(): void {
    this.#reconnect.end();
  }

  /** Null where it is not known: without a log what was written counts, and a predecessor's too. */
  unflushed(): UnflushedWrites | null {
    if (this.#log !== undefined) return { writes: this.#log.entries, bytes: this.#log.bytes };
    const { writes, discards, writeZeroes } = this.#running().stats();
    const isClean = !this.#device.recovery && writes + discards + writeZeroes === 0n;
    return isClean ? { writes: 0, bytes: 0n } : null;
  }

  #news(news: ReconnectNews): void {
    const { devId } = this.#device;
    if (news.kind === 'holding') {
      if (this.#log !== undefined) this.#log.holdDeadlineMs ??= this.#delayMs;
      const state = this.#delayMs === 0 ? 'FAILING' : 'HOLDING';
      const lost = this.#hadBackend ? { requests: this.#running().stats().inFlight } : undefined;
      this.#told({ state, text: news.reason, lost });
    } else if (news.kind === 'connected') {
      if (this.#log !== undefined) this.#log.holdDeadlineMs = undefined;
      this.#lastNote = '';
      this.#hadBackend = true;
      this.#resuming = { left: this.#device.queueCount, requests: 0, news };
    } else if (news.kind === 'fatal') {
      this.#running().failAll();
      this.#told({ state: 'FATAL', text: news.reason });
    } else {
      const text = news.kind === 'note' ? news.text : `reconnect: ${news.reason}`;
      // The same cause every few seconds says nothing new.
      if (text !== this.#lastNote) log('warning', devId, text);
      this.#lastNote = text;
    }
  }

  #resumed(requests: number): void {
    const resuming = this.#resuming;
    if (resuming === undefined) return;
    resuming.requests += requests;
    resuming.left -= 1;
    if (resuming.left > 0) return;
    this.#resuming = undefined;
    const { replayed, tookMs, grownTo } = resuming.news;
    const what = `${resuming.requests} requests and ${replayed.bytes} unflushed bytes`;
    const grown = grownTo === undefined ? undefined : this.#grew(grownTo);
    this.#told({ state: 'CONNECTED', text: `${what} in ${tookMs} ms`, grown });
  }

  #grew(sizeBytes: bigint): BackendEvent['grown'] {
    const blockBytes = BigInt(this.#device.record.shape?.logicalBlockBytes ?? 1);
    const follow = this.#options.resize === true && sizeBytes % blockBytes === 0n;
    if (follow) {
      // Before the driver hears of it: what is written there must be replayed, and not be lost.
      this.#sizeBytes = sizeBytes;
      this.#reconnect.grew(sizeBytes);
    }
    return { sizeBytes, follow };
  }

  #connections(found: NbdExport, streams: readonly TransportStream[]): NbdConnections {
    const { info, structuredReplies } = found;
    this.#epoch = this.#log?.nextEpoch() ?? (this.#epoch + 1) % 65_536;
    return {
      transports: streams.map(({ transport }) => transport),
      structuredReplies,
      canFlush: info.canFlush,
      canFua: info.canFua,
      canTrim: info.canTrim,
      canWriteZeroes: info.canWriteZeroes,
      maximumBlockBytes: info.maximumBlockBytes,
      minimumBlockBytes: info.minimumBlockBytes,
      epoch: this.#epoch,
    };
  }

  async #replay({ stream, found }: Connection<TransportStream>): Promise<Replayed> {
    if (this.#log === undefined || this.#log.entries === 0) return NOTHING;
    const { transports: _, canFlush: _f, canFua: _a, ...config } = this.#connections(found, []);
    const sizeBytes = this.#sizeBytes;
    return this.#log.replay(stream.transport, { ...config, sizeBytes }, REPLAY_TIMEOUT_MS);
  }

  /** A successor gets the time that one handshake may take even where requests wait for nobody. */
  #holdLeftMs(): number {
    if (!this.#device.recovery) return this.#delayMs;
    const own = Math.max(this.#delayMs, this.#options.handshakeTimeoutMs);
    return this.#log?.holdDeadlineMs ?? (this.#delayMs < 0 ? this.#delayMs : own);
  }

  get #delayMs(): number {
    return this.#options.reconnectDelayMs ?? DEFAULT_RECONNECT_DELAY_MS;
  }

  #running(): Queues {
    if (this.#queues === undefined) throw new Error('the queues have not been started');
    return this.#queues;
  }
}
