/**
 * Owns: a service that speaks S3 for GET of one object, on 127.0.0.1, and judges each signature by
 * itself, with the answers and codes of the S3 API written down a second time.
 * Runs in: test processes.
 * Must not: know the product's code, or answer a range that it was not asked for.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fromAmzDate, type Keys, signatureOf } from './sigv4.ts';

export interface Version {
  /** `null`: of a bucket that keeps no versions. */
  readonly id: string;
  readonly etag: string;
  readonly bytes: Uint8Array;
}

/** What it is, and what it does from now on; a test changes it while it serves. */
export interface S3State {
  bucket: string;
  key: string;
  /** The last one is the current one. */
  versions: Version[];
  keys: Keys[];
  /** Tokens that were good once. */
  expiredTokens: string[];
  isPublic: boolean;
  /** It answers with the current version, whatever it was asked for. */
  ignoresVersions: boolean;
  region: string;
  /** Its clock is so far ahead, ms. */
  aheadMs: number;
  /** Answers instead, where it gives a status and a code. */
  refuse: ((request: IncomingMessage) => Refused | undefined) | undefined;
}

export interface Refused {
  readonly status: number;
  readonly code: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** More elements within `<Error>`. */
  readonly more?: string;
}

export interface S3Origin {
  readonly base: string;
  readonly state: S3State;
  readonly requests: IncomingMessage[];
  /** The codes that it answered, `206` for a range. */
  readonly answers: string[];
  close(): void;
}

/** Credential=ID/DAY/REGION/s3/aws4_request, SignedHeaders=…, Signature=… */
const AUTHORIZATION = new RegExp(
  '^AWS4-HMAC-SHA256 Credential=([^/]+)/(\\d{8})/([^/]+)/s3/aws4_request, ?' +
    'SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$',
);

const MAXIMUM_SKEW_MS = 15 * 60_000;

export async function startS3Origin(given: Partial<S3State> = {}): Promise<S3Origin> {
  const state: S3State = {
    ...{ bucket: 'images', key: 'disk.img', versions: [], keys: [], expiredTokens: [] },
    ...{
      isPublic: false,
      ignoresVersions: false,
      region: 'us-east-1',
      aheadMs: 0,
      refuse: undefined,
    },
    ...given,
  };
  const requests: IncomingMessage[] = [];
  const answers: string[] = [];
  const server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
    requests.push(request);
    const refused =
      state.refuse?.(request) ?? judge(request, state) ?? send(request, response, state);
    if (refused === undefined) {
      answers.push('206');
      return;
    }
    answers.push(refused.code);
    sendError(response, refused, state);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const close = (): void => {
    server.closeAllConnections();
    server.close();
  };
  return { base, state, requests, answers, close };
}

function text(request: IncomingMessage, name: string): string {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(', ') : (value ?? '');
}

/** Undefined: whoever asks may. In the order in which AWS looks. */
function judge(request: IncomingMessage, state: S3State): Refused | undefined {
  const authorization = text(request, 'authorization');
  if (authorization === '')
    return state.isPublic ? undefined : { status: 403, code: 'AccessDenied' };
  const match = AUTHORIZATION.exec(authorization);
  const [, id = '', day = '', region = '', names = '', signature = ''] = match ?? [];
  if (match === null) return { status: 400, code: 'AuthorizationHeaderMalformed' };
  if (region !== state.region) {
    const more = `<Region>${state.region}</Region>`;
    return { status: 400, code: 'AuthorizationHeaderMalformed', more };
  }
  const keys = state.keys.find((known) => known.id === id);
  if (keys === undefined) return { status: 403, code: 'InvalidAccessKeyId' };
  const date = text(request, 'x-amz-date');
  const skewMs = Math.abs(fromAmzDate(date) - Date.now() - state.aheadMs);
  if (!(skewMs <= MAXIMUM_SKEW_MS)) return { status: 403, code: 'RequestTimeTooSkewed' };
  const signedHeaders = names.split(';');
  const mustSign = ['host', 'range', 'x-amz-content-sha256', 'x-amz-date'];
  const isWhole = mustSign.every((name) => signedHeaders.includes(name)) && date.startsWith(day);
  const part = {
    ...{ method: request.method ?? '', target: request.url ?? '', signedHeaders, date, region },
    headers: Object.fromEntries(signedHeaders.map((name) => [name, text(request, name)])),
    payload: text(request, 'x-amz-content-sha256'),
  };
  if (!isWhole || signatureOf(part, keys.secret) !== signature) {
    return { status: 403, code: 'SignatureDoesNotMatch' };
  }
  const token = text(request, 'x-amz-security-token');
  if (state.expiredTokens.includes(token)) return { status: 400, code: 'ExpiredToken' };
  return token === (keys.token ?? '') ? undefined : { status: 400, code: 'InvalidToken' };
}

/** Path style, or the bucket before the host. */
function wants(request: IncomingMessage, { bucket }: S3State): [bucket: string, key: string] {
  const path = decodeURIComponent((request.url ?? '').split('?')[0] ?? '').slice(1);
  if (text(request, 'host').startsWith(`${bucket}.`)) return [bucket, path];
  const slash = path.indexOf('/');
  return [path.slice(0, slash), path.slice(slash + 1)];
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  state: S3State,
): Refused | undefined {
  const [bucket, key] = wants(request, state);
  if (bucket !== state.bucket) return { status: 404, code: 'NoSuchBucket' };
  if (key !== state.key) return { status: 404, code: 'NoSuchKey' };
  const named = /[?&]versionId=([^&]*)/.exec(request.url ?? '')?.[1];
  const asked = state.ignoresVersions ? undefined : named;
  const version =
    asked === undefined
      ? state.versions.at(-1)
      : state.versions.find(({ id }) => id === decodeURIComponent(asked));
  if (version === undefined) {
    return { status: 404, code: asked === undefined ? 'NoSuchKey' : 'NoSuchVersion' };
  }
  const ifMatch = text(request, 'if-match');
  if (ifMatch !== '' && ifMatch !== version.etag)
    return { status: 412, code: 'PreconditionFailed' };
  const [, first = '', last = ''] = /^bytes=(\d+)-(\d+)$/.exec(text(request, 'range')) ?? [];
  const bytes = version.bytes.subarray(Number(first), Number(last) + 1);
  response.writeHead(206, {
    'Content-Range': `bytes ${first}-${Number(first) + bytes.length - 1}/${version.bytes.length}`,
    'Content-Length': bytes.length,
    ETag: version.etag,
    'x-amz-version-id': version.id,
  });
  response.end(bytes);
  return undefined;
}

function sendError(response: ServerResponse, refused: Refused, { aheadMs, keys }: S3State): void {
  const { status, code, headers = {}, more = '' } = refused;
  // Services repeat what they were sent.
  const echo = keys.map(({ id, token }) => `${id} ${token}`).join(' ');
  const message = `<Message>${echo}</Message>`;
  const error = `<Error><Code>${code}</Code>${message}${more}</Error>`;
  const xml = `<?xml version="1.0" encoding="UTF-8"?>\n${error}`;
  const date = new Date(Date.now() + aheadMs).toUTCString();
  response.writeHead(status, { 'Content-Type': 'application/xml', Date: date, ...headers });
  response.end(xml);
}
