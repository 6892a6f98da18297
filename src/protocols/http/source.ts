/**
 * Owns: an object of a web server as a Source: how it is opened, and how a range of it is read,
 * whoever carries the request (http/walk.ts, s3/walk.ts).
 * Runs in: server processes and the CLI, on the JS main thread.
 * Must not: keep data, wait and try again, use HEAD (an address that is signed for GET refuses
 * it), or show a query or a header.
 */
import type {
  BackendInfo,
  ObjectIdentity,
  Source,
  SourceRead,
  SourceTraffic,
  Target,
  WholeRead,
} from '../adapter.ts';
import { MAXIMUM_PARALLEL } from '../source/parallel-limit.ts';
import { SourceError } from '../source/source-error.ts';
import type { Answer } from './answer.ts';
import { type Body, partOfWhole } from './body.ts';
import { readCaFile } from './files.ts';
import { unlessGivenUp } from './given-up.ts';
import { judgeOpening, judgeRead, judgeWhole } from './judge.ts';
import { Pools } from './pools.ts';
import type { HttpProxy } from './proxy.ts';
import { Route } from './redirects.ts';
import { addressText } from './url.ts';
import { Credentials, Walker, type Wish } from './walk.ts';

export type HttpTarget = Extract<Target, { kind: 'http' }>;

/** What reading an object by HTTP needs, whatever says who may. */
export interface TransferOptions {
  /** For a connection, for the head of an answer, and between two pieces of it; ms, > 0. */
  readonly timeoutMs: number;
  /** The object that a device was made of: nothing is asked for before it is read. */
  readonly expected?: ObjectIdentity;
  /** Certificates in PEM to trust, instead of those of the system. */
  readonly caFile?: string;
  /** Everything goes through it; undefined: there is none. */
  readonly proxy?: HttpProxy;
  /** Connections to one origin at most, >= 1. Default: 16. */
  readonly connections?: number;
  /** Is told the descriptor of each connection that stands. */
  readonly connected?: (fd: number) => void;
}

export interface HttpOptions extends TransferOptions {
  /** Lines `Name: value`, sent to the origin of the target alone. */
  readonly headerFile?: string;
  /** An origin that sends no ranges will do: see Source.readWhole. */
  readonly orWhole?: boolean;
}

/** Carries a request to the object, with all that it takes until it is answered. */
export interface Carrier {
  /** Resolves with the head of the answer, after all of `into` has landed. */
  get(wish: Wish): Promise<Answer>;
}

const SECTOR_BYTES = 512;
const MEBIBYTE = 1024 * 1024;
const NO_LIMIT = 0xffffffff;

/**
 * Opens the object: asks for its first byte, which tells its size and version and whether ranges
 * work. With `expected` nothing is asked for; a read finds out whether it still is that object.
 *
 * Rejects with a SourceError: UNBD_USAGE or UNBD_NO_PERMISSION (a file), UNBD_EXPORT_UNKNOWN,
 * UNBD_EXPORT_REFUSED (with certificates that are not trusted), UNBD_EXPORT_UNUSABLE, or
 * UNBD_BACKEND_* for the network and the server.
 */
export async function openHttp(target: HttpTarget, options: HttpOptions): Promise<Source> {
  const pools = await openPools(options);
  const credentials = new Credentials(options.headerFile);
  const url = new URL(target.url);
  const walker = new Walker(pools, new Route(url), credentials, options.timeoutMs);
  try {
    await credentials.renew([]);
    let sendsRanges = true;
    const judge = (answer: Answer, subject: string): ObjectIdentity => {
      sendsRanges = answer.status !== 200 || options.orWhole !== true;
      return sendsRanges ? judgeOpening(answer, subject) : judgeWhole(answer, subject);
    };
    const identity = options.expected ?? (await probe(walker, judge));
    const how = { orWhole: options.orWhole === true, sendsRanges };
    return new HttpSource(pools, walker, identity, addressText(url), how);
  } catch (error) {
    await pools.close();
    throw error;
  }
}

/** Rejects with a SourceError where the file of certificates cannot be used. */
export async function openPools(options: TransferOptions): Promise<Pools> {
  const { timeoutMs, proxy, connected, connections = MAXIMUM_PARALLEL } = options;
  const ca = options.caFile === undefined ? undefined : await readCaFile(options.caFile);
  return new Pools({ timeoutMs, connections, ca, proxy, connected });
}

const NOTHING: Body = { lengthBytes: Number.MAX_SAFE_INTEGER, take: () => 'enough' };

/** Asks for the first byte of the object; `judge` tells from the answer which object it is. */
export async function probe(carrier: Carrier, judge: typeof judgeOpening): Promise<ObjectIdentity> {
  let identity: ObjectIdentity | undefined;
  await carrier.get({
    headers: ['Range', 'bytes=0-0', 'Accept-Encoding', 'identity'],
    into: new Uint8Array(1),
    signal: new AbortController().signal,
    judge: (answer, subject) => {
      identity = judge(answer, subject);
    },
    // Of everything nothing is wanted yet.
    body: ({ status }) => (status === 200 ? NOTHING : undefined),
    landed: () => {},
  });
  if (identity === undefined) throw new SourceError('UNBD_INTERNAL', 'an answer was not judged');
  return identity;
}

export interface HowRead {
  /** A read may be answered with everything. */
  readonly orWhole: boolean;
  readonly sendsRanges: boolean;
}

export class HttpSource implements Source {
  readonly info: BackendInfo;
  readonly identity: ObjectIdentity;
  readonly readWhole?: (read: WholeRead) => Promise<void>;
  readonly #orWhole: boolean;
  readonly #pools: Pools;
  readonly #carrier: Carrier;
  readonly #subject: string;
  readonly #running = new Set<AbortController>();
  #isClosed = false;

  constructor(
    pools: Pools,
    carrier: Carrier,
    identity: ObjectIdentity,
    subject: string,
    how: HowRead = { orWhole: false, sendsRanges: true },
  ) {
    this.#pools = pools;
    this.#carrier = carrier;
    this.#subject = subject;
    this.identity = identity;
    this.info = offer(identity.sizeBytes);
    this.#orWhole = how.orWhole;
    if (!how.sendsRanges) this.readWhole = (read) => this.#readWhole(read);
  }

  get traffic(): SourceTraffic {
    return this.#pools.traffic;
  }

  read(read: SourceRead): Promise<void> {
    return this.#run(read.signal, (signal) => this.#wish(read, signal));
  }

  #readWhole({ signal, piece }: WholeRead): Promise<void> {
    const { identity } = this;
    const lengthBytes = Number(identity.sizeBytes);
    const asked = { offsetBytes: 0, lengthBytes, identity };
    const take = (bytes: Uint8Array, atBytes: number): 'more' => {
      piece(bytes, atBytes);
      return 'more';
    };
    return this.#run(signal, (stop) => ({
      headers: this.#headers(),
      into: new Uint8Array(0),
      signal: stop,
      judge: (answer, subject) => judgeRead(answer, asked, subject),
      body: () => ({ lengthBytes, take }),
      landed: () => undefined,
    }));
  }

  async #run(signal: AbortSignal, wish: (signal: AbortSignal) => Wish): Promise<void> {
    if (this.#isClosed) throw this.#closedError();
    const stop = new AbortController();
    const onAbort = () => stop.abort(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort);
    this.#running.add(stop);
    try {
      // An exchange writes nothing after an abort; what comes before one, such as a file, may hang.
      await unlessGivenUp(this.#carrier.get(wish(stop.signal)), stop.signal, this.#subject);
    } finally {
      this.#running.delete(stop);
      signal.removeEventListener('abort', onAbort);
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const stop of this.#running) stop.abort(this.#closedError());
    await this.#pools.close();
  }

  /**
   * If-Match (RFC 9110, 13.1.1) makes the origin itself refuse another version. Its counterpart
   * for times, If-Unmodified-Since (13.1.4), is not sent: it lets an older version pass, its unit
   * is a second and origins that keep finer times refuse what did not change, and a wrong refusal
   * would end the device. The Last-Modified of the answer is compared instead. If-Range (13.1.5)
   * is not sent either: it turns a change into an answer with everything.
   */
  #wish(read: SourceRead, signal: AbortSignal): Wish {
    const { identity } = this;
    const { offsetBytes, into } = read;
    const asked = { offsetBytes, lengthBytes: into.length, identity, orWhole: this.#orWhole };
    const range = `bytes=${offsetBytes}-${offsetBytes + into.length - 1}`;
    return {
      headers: ['Range', range, ...this.#headers()],
      into,
      signal,
      judge: (answer, subject) => judgeRead(answer, asked, subject),
      body: ({ status }) =>
        status === 200 ? partOfWhole(read, Number(identity.sizeBytes)) : undefined,
      landed: (bytes) => read.landed(bytes),
    };
  }

  #headers(): readonly string[] {
    const { etag } = this.identity;
    return ['Accept-Encoding', 'identity', ...(etag === '' ? [] : ['If-Match', etag])];
  }

  #closedError(): SourceError {
    return new SourceError('UNBD_BACKEND_CLOSED', `${this.#subject} was closed`);
  }
}

function offer(sizeBytes: bigint): BackendInfo {
  return {
    sizeBytes,
    readOnly: true,
    canFlush: false,
    canFua: false,
    canTrim: false,
    canWriteZeroes: false,
    canFastZero: false,
    canMultiConn: true,
    rotational: false,
    minimumBlockBytes: SECTOR_BYTES,
    preferredBlockBytes: MEBIBYTE,
    maximumBlockBytes: NO_LIMIT,
  };
}
