/**
 * Owns: an object of a web server as a Source: how it is opened, and how a range of it is read.
 * Runs in: server processes and the CLI, on the JS main thread.
 * Must not: keep data, wait and try again, use HEAD (an address that is signed for GET refuses
 * it), or show a query or a header.
 */
import type { BackendInfo, ObjectIdentity, Source, SourceRead, Target } from '../adapter.ts';
import { MAXIMUM_PARALLEL } from '../source/parallel-limit.ts';
import { SourceError } from '../source/source-error.ts';
import { readCaFile } from './files.ts';
import { judgeOpening, judgeRead } from './judge.ts';
import { Pools } from './pools.ts';
import { Route } from './redirects.ts';
import { addressText } from './url.ts';
import { Credentials, Walker, type Wish } from './walk.ts';

export type HttpTarget = Extract<Target, { kind: 'http' }>;

export interface HttpOptions {
  /** For a connection, for the head of an answer, and between two pieces of it; ms, > 0. */
  readonly timeoutMs: number;
  /** The object that a device was made of: nothing is asked for before it is read. */
  readonly expected?: ObjectIdentity;
  /** Certificates in PEM to trust, instead of those of the system. */
  readonly caFile?: string;
  /** Lines `Name: value`, sent to the origin of the target alone. */
  readonly headerFile?: string;
  /** Connections to one origin at most, >= 1. Default: 16. */
  readonly connections?: number;
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
  const { timeoutMs, connections = MAXIMUM_PARALLEL } = options;
  const ca = options.caFile === undefined ? undefined : await readCaFile(options.caFile);
  const credentials = new Credentials(options.headerFile);
  await credentials.renew([]);
  const url = new URL(target.url);
  const pools = new Pools({ timeoutMs, connections, ca });
  const walker = new Walker(pools, new Route(url), credentials, timeoutMs);
  try {
    const identity = options.expected ?? (await probe(walker));
    return new HttpSource(pools, walker, identity, addressText(url));
  } catch (error) {
    await pools.close();
    throw error;
  }
}

async function probe(walker: Walker): Promise<ObjectIdentity> {
  let identity: ObjectIdentity | undefined;
  await walker.get({
    headers: ['Range', 'bytes=0-0', 'Accept-Encoding', 'identity'],
    into: new Uint8Array(1),
    signal: new AbortController().signal,
    judge: (answer, subject) => {
      identity = judgeOpening(answer, subject);
    },
    landed: () => {},
  });
  if (identity === undefined) throw new SourceError('UNBD_INTERNAL', 'an answer was not judged');
  return identity;
}

class HttpSource implements Source {
  readonly info: BackendInfo;
  readonly identity: ObjectIdentity;
  readonly #pools: Pools;
  readonly #walker: Walker;
  readonly #subject: string;
  readonly #running = new Set<AbortController>();
  #isClosed = false;

  constructor(pools: Pools, walker: Walker, identity: ObjectIdentity, subject: string) {
    this.#pools = pools;
    this.#walker = walker;
    this.#subject = subject;
    this.identity = identity;
    this.info = offer(identity.sizeBytes);
  }

  async read(read: SourceRead): Promise<void> {
    if (this.#isClosed) throw this.#closedError();
    const stop = new AbortController();
    const onAbort = () => stop.abort(read.signal.reason);
    if (read.signal.aborted) onAbort();
    read.signal.addEventListener('abort', onAbort);
    this.#running.add(stop);
    try {
      await this.#walker.get(this.#wish(read, stop.signal));
    } finally {
      this.#running.delete(stop);
      read.signal.removeEventListener('abort', onAbort);
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
    const asked = { offsetBytes, lengthBytes: into.length, identity };
    const range = `bytes=${offsetBytes}-${offsetBytes + into.length - 1}`;
    return {
      headers: [
        ...['Range', range, 'Accept-Encoding', 'identity'],
        ...(identity.etag === '' ? [] : ['If-Match', identity.etag]),
      ],
      into,
      signal,
      judge: (answer, subject) => judgeRead(answer, asked, subject),
      landed: (bytes) => read.landed(bytes),
    };
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
