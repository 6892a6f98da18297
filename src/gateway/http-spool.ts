/**
 * Owns: the download of an object, whose origin sends no ranges, into its entry on disk before a
 * device is made of it (--spool).
 * Runs in: the server process, on the JS main thread, which serves nothing yet: it may wait for the
 * disk.
 * Must not: hand out an entry that is not whole, or leave in it what is not of this version.
 */
import type { Source, Target } from '../protocols/adapter.ts';
import { asGatewayError, type ErrorCode, EXIT_STATUS, GatewayError } from '../protocols/errors.ts';
import { BackOff } from './back-off.ts';
import { cacheFolderError, cacheRoomError } from './cache-error.ts';
import { checkHoldsAll, type HttpCache } from './http-cache.ts';
import { log } from './log.ts';
import type { ConnectOptions } from './messages.ts';
import type { NativeCacheFile } from './native-cache.ts';
import { fillUnitOf } from './store-life.ts';

const MEBIBYTE = 1024 * 1024;
/** What is lost by an end in between, and for how long the disk is waited for at once. */
const COMMIT_BYTES = 16 * MEBIBYTE;
/** In a row, of which none came further than those before. */
const ATTEMPTS = 5;

export interface SpoolLinks {
  readonly target: Target;
  readonly options: ConnectOptions;
  /** Undefined: there is no cache to be had, and `warn` was told why. */
  openCache(warn: (text: string) => void): Promise<HttpCache | undefined>;
  /** How far it is, one line. */
  progress(text: string): void;
}

/**
 * The entry, with all of the object in it. Rejects with the reason where the object does not come
 * whole, or the folder does not take it; what has come is valid, and is kept.
 */
export async function spool(source: Source, links: SpoolLinks): Promise<HttpCache> {
  const { sizeBytes } = source.identity;
  checkHoldsAll(links.options, source.identity);
  const first = await opened(links);
  if (first.file.cachedBytes === sizeBytes) return first;
  try {
    await checkRoom(first, sizeBytes, links.options.cacheDirectory ?? '');
    await download(source, first.file, links);
  } finally {
    first.close();
  }
  // As any successor finds it: what is on disk is what counts.
  const whole = await opened(links);
  if (whole.file.cachedBytes === sizeBytes) return whole;
  whole.close();
  throw new GatewayError('UNBD_INTERNAL', `${links.target.text} was downloaded, and is not whole`);
}

/** Hours later would be too late to say so. Throws UNBD_USAGE. */
async function checkRoom(cache: HttpCache, sizeBytes: bigint, directory: string): Promise<void> {
  const needs = sizeBytes - cache.file.cachedBytes;
  const takes = await cache.roomBytes();
  if (takes !== undefined && takes < needs) throw cacheRoomError(directory, needs, takes);
}

async function opened({ openCache, target, options }: SpoolLinks): Promise<HttpCache> {
  let why = 'there is no --cache';
  const cache = await openCache((text) => {
    why = text;
  });
  if (cache !== undefined) return cache;
  const text = `${target.text} cannot be downloaded into ${options.cacheDirectory}: ${why}`;
  throw new GatewayError('UNBD_EXPORT_UNUSABLE', text, { hint: 'name another --cache DIR' });
}

/** From the first byte each time: there is no other way without ranges. */
async function download(source: Source, file: NativeCacheFile, links: SpoolLinks): Promise<void> {
  const backOff = new BackOff();
  let furthestBytes = 0;
  for (let failures = 0; ; ) {
    const writer = new ChunkWriter(file, Number(source.identity.sizeBytes), links);
    try {
      await source.readWhole?.({
        signal: new AbortController().signal,
        piece: (bytes, atBytes) => writer.write(bytes, atBytes),
      });
      writer.commit();
      return;
    } catch (thrown) {
      const error = asGatewayError(thrown);
      failures = writer.writtenBytes > furthestBytes ? 1 : failures + 1;
      furthestBytes = Math.max(furthestBytes, writer.writtenBytes);
      if (failures >= ATTEMPTS || !mayPass(error.code)) throw error;
      log('warning', undefined, `${error.message}; it is downloaded again from its first byte`);
      await backOff.wait({});
    }
  }
}

/** The network, or the origin's own troubles. */
function mayPass(code: ErrorCode): boolean {
  return EXIT_STATUS[code] === EXIT_STATUS.UNBD_BACKEND_UNREACHABLE;
}

/** Makes chunks of the pieces of a body. */
class ChunkWriter {
  writtenBytes = 0;
  readonly #file: NativeCacheFile;
  readonly #sizeBytes: number;
  readonly #links: SpoolLinks;
  readonly #chunk: Uint8Array;
  #percent = -1;

  constructor(file: NativeCacheFile, sizeBytes: number, links: SpoolLinks) {
    this.#file = file;
    this.#sizeBytes = sizeBytes;
    this.#links = links;
    this.#chunk = new Uint8Array(fillUnitOf(links.options));
  }

  write(piece: Uint8Array, atBytes: number): void {
    // One read may take several ways, such as another one after a redirect that led nowhere.
    this.writtenBytes = atBytes;
    const chunkBytes = this.#chunk.length;
    for (let done = 0; done < piece.length; ) {
      const at = this.writtenBytes % chunkBytes;
      const part = piece.subarray(done, done + chunkBytes - at);
      this.#chunk.set(part, at);
      done += part.length;
      this.writtenBytes += part.length;
      const isEnd = this.writtenBytes === this.#sizeBytes;
      if (isEnd || this.writtenBytes % chunkBytes === 0) this.#save(at + part.length);
    }
  }

  commit(): void {
    this.#onDisk(() => this.#file.commit());
  }

  #save(lengthBytes: number): void {
    const number = Math.ceil(this.writtenBytes / this.#chunk.length) - 1;
    this.#onDisk(() => this.#file.save(number, this.#chunk.subarray(0, lengthBytes)));
    if (this.writtenBytes % COMMIT_BYTES === 0) this.commit();
    const percent = Math.floor((this.writtenBytes / this.#sizeBytes) * 100);
    if (percent === this.#percent) return;
    this.#percent = percent;
    const mebibytes = (bytes: number) => Math.ceil(bytes / MEBIBYTE);
    const of = `${mebibytes(this.writtenBytes)} of ${mebibytes(this.#sizeBytes)} MiB`;
    this.#links.progress(`download ${this.#links.target.text}: ${of}, ${percent} %`);
  }

  #onDisk(act: () => void): void {
    try {
      act();
    } catch (error) {
      throw cacheFolderError(this.#links.options.cacheDirectory ?? '', error);
    }
  }
}
