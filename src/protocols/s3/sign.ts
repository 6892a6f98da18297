/**
 * Owns: the signature of a request (AWS Signature Version 4), and the difference between this
 * machine's clock and the origin's.
 * Runs in: server processes and the CLI, on the JS main thread.
 * Must not: keep credentials, or load the signer before somebody signs: it costs more than all
 * else at the start of a server process.
 */
import { createHash, createHmac, type Hash, type Hmac } from 'node:crypto';
import type { AwsCredentials } from './credentials.ts';

/** Of an empty body. */
const NO_BODY_SHA256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

/** The shape that the signer wants of node:crypto, which is quicker than its own. */
class Sha256 {
  readonly #hash: Hash | Hmac;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash =
      secret === undefined ? createHash('sha256') : createHmac('sha256', bytesOf(secret));
  }

  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(bytesOf(data));
  }

  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }
}

function bytesOf(data: string | ArrayBuffer | ArrayBufferView): string | Uint8Array {
  if (typeof data === 'string') return data;
  if (ArrayBuffer.isView(data))
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return new Uint8Array(data);
}

export class Signer {
  readonly #now: () => number;
  /** The origin's clock is so far ahead of ours, ms. */
  #aheadMs = 0;

  /** `now`: the time of day, ms since 1970. */
  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** The origin says what time it is (`Date`, RFC 9110, 6.6.1); true if that is one. */
  learnTime(date: string | undefined): boolean {
    const atMs = Date.parse(date ?? '');
    if (Number.isNaN(atMs)) return false;
    this.#aheadMs = atMs - this.#now();
    return true;
  }

  /** `headers` and those that sign them with the address, as names and values in turn. */
  async sign(
    url: URL,
    headers: readonly string[],
    credentials: AwsCredentials,
    region: string,
  ): Promise<readonly string[]> {
    const { SignatureV4 } = await import('@smithy/signature-v4');
    const signer = new SignatureV4({
      ...{ service: 's3', region, credentials, sha256: Sha256 },
      // S3 alone signs a path as it is sent.
      uriEscapePath: false,
    });
    const signed = await signer.sign(
      {
        ...{ method: 'GET', protocol: url.protocol, hostname: url.hostname, path: url.pathname },
        query: Object.fromEntries(url.searchParams),
        headers: { host: url.host, 'x-amz-content-sha256': NO_BODY_SHA256, ...pairs(headers) },
      },
      { signingDate: new Date(this.#now() + this.#aheadMs) },
    );
    // The client sets Host itself.
    return Object.entries(signed.headers).flatMap(([name, value]) =>
      name === 'host' ? [] : [name, value],
    );
  }
}

function pairs(headers: readonly string[]): Record<string, string> {
  const result: Record<string, string> = {};
  for (let at = 0; at + 1 < headers.length; at += 2) {
    result[(headers[at] ?? '').toLowerCase()] = headers[at + 1] ?? '';
  }
  return result;
}
