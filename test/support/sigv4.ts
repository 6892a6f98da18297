/**
 * Owns: AWS Signature Version 4 a second time, from its documentation alone: to judge the
 * signatures of the product, to put objects into real servers, and to sign addresses.
 * Runs in: test processes.
 * Must not: share a line with the product or use what signs for it.
 */
import { createHash, createHmac } from 'node:crypto';

export interface Keys {
  readonly id: string;
  readonly secret: string;
  readonly token?: string | undefined;
}

export interface SignedPart {
  readonly method: string;
  /** As sent: path and query. */
  readonly target: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly signedHeaders: readonly string[];
  /** `20260101T000000Z` */
  readonly date: string;
  readonly region: string;
  /** SHA-256 of the body in hex, or UNSIGNED-PAYLOAD. */
  readonly payload: string;
}

const ALGORITHM = 'AWS4-HMAC-SHA256';

export function sha256Hex(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

function hmac(key: string | Buffer, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest();
}

/** RFC 3986: all but the unreserved characters. */
export function escapeAll(text: string): string {
  return [...Buffer.from(text)]
    .map((byte) => {
      const character = String.fromCharCode(byte);
      if (/[A-Za-z0-9_.~-]/.test(character)) return character;
      return `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
    })
    .join('');
}

/** `20260101T000000Z` */
export function amzDate(atMs: number): string {
  return new Date(atMs).toISOString().replace(/[-:]|\.\d+/g, '');
}

export function fromAmzDate(date: string): number {
  const [, year, month, day, hour, minute, second] =
    /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(date) ?? [];
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
}

export function scopeOf(date: string, region: string): string {
  return `${date.slice(0, 8)}/${region}/s3/aws4_request`;
}

/** The signature in hex, without `X-Amz-Signature` in the query. */
export function signatureOf(part: SignedPart, secret: string): string {
  const [path = '', query = ''] = part.target.split('?');
  const canonicalQuery = query
    .split('&')
    .filter((pair) => pair !== '' && !pair.startsWith('X-Amz-Signature='))
    .map((pair) => pair.split('=').map((word) => escapeAll(decodeURIComponent(word))))
    .map(([name, value = '']) => `${name}=${value}`)
    .sort()
    .join('&');
  const names = [...part.signedHeaders].sort();
  const canonical = [
    part.method,
    path
      .split('/')
      .map((word) => escapeAll(decodeURIComponent(word)))
      .join('/'),
    canonicalQuery,
    ...names.map((name) => `${name}:${(part.headers[name] ?? '').trim().replace(/ +/g, ' ')}`),
    '',
    names.join(';'),
    part.payload,
  ].join('\n');
  const scope = scopeOf(part.date, part.region);
  const toSign = [ALGORITHM, part.date, scope, sha256Hex(canonical)].join('\n');
  const key = [part.date.slice(0, 8), part.region, 's3', 'aws4_request'].reduce<string | Buffer>(
    (sofar, word) => hmac(sofar, word),
    `AWS4${secret}`,
  );
  return hmac(key as Buffer, toSign).toString('hex');
}

/** The headers of a request whose body is not signed; `more` are sent and signed too. */
export function signedHeaders(
  method: string,
  url: URL,
  keys: Keys,
  more: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const region = 'us-east-1';
  const payload = 'UNSIGNED-PAYLOAD';
  const date = amzDate(Date.now());
  const headers: Record<string, string> = {
    ...more,
    host: url.host,
    'x-amz-content-sha256': payload,
    'x-amz-date': date,
    ...(keys.token === undefined ? {} : { 'x-amz-security-token': keys.token }),
  };
  const names = Object.keys(headers).sort();
  const part = { method, target: `${url.pathname}${url.search}`, headers, signedHeaders: names };
  const signature = signatureOf({ ...part, date, region, payload }, keys.secret);
  const { host: _, ...sent } = headers;
  const words = [
    `Credential=${keys.id}/${scopeOf(date, region)}`,
    `SignedHeaders=${names.join(';')}`,
    `Signature=${signature}`,
  ];
  return { ...sent, authorization: `${ALGORITHM} ${words.join(', ')}` };
}

/** An address that anybody may GET for so many seconds. */
export function presigned(url: URL, keys: Keys, seconds: number, region = 'us-east-1'): string {
  const date = amzDate(Date.now());
  const words: Readonly<Record<string, string>> = {
    'X-Amz-Algorithm': ALGORITHM,
    'X-Amz-Credential': `${keys.id}/${scopeOf(date, region)}`,
    'X-Amz-Date': date,
    'X-Amz-Expires': String(seconds),
    'X-Amz-SignedHeaders': 'host',
  };
  const query = Object.entries(words).map(([name, value]) => `${name}=${escapeAll(value)}`);
  const target = `${url.pathname}?${query.join('&')}`;
  const headers = { host: url.host };
  const rest = { date, region, payload: 'UNSIGNED-PAYLOAD' };
  const part = { method: 'GET', target, headers, signedHeaders: ['host'], ...rest };
  return `${url.origin}${target}&X-Amz-Signature=${signatureOf(part, keys.secret)}`;
}
