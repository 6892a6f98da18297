/**
 * Web servers that a test writes itself, on 127.0.0.1: well-behaved ones by node:http, others byte
 * by byte; and reads of a source that keep what landed.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createRawServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Source } from '../../src/protocols/adapter.ts';
import { GatewayError } from '../../src/protocols/errors.ts';
import { type HttpOptions, openHttp } from '../../src/protocols/http/source.ts';
import { parseTarget } from '../../src/protocols/target.ts';

export const OBJECT_BYTES = 4096;
export const ETAG = '"v1"';
export const MODIFIED = 'Sat, 21 Nov 2026 10:00:00 GMT';
export const TIMEOUT_MS = 60_000;

/** No two neighbours are equal, and no two lines of 256 bytes. */
export const OBJECT = Uint8Array.from({ length: OBJECT_BYTES }, (_, at) => at * 7 + (at >> 8));

export interface Teardown {
  teardown(end: () => unknown): void;
}

export interface Origin {
  readonly base: string;
  readonly requests: IncomingMessage[];
  connections: number;
}

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

export async function httpOrigin(t: Teardown, handler: Handler): Promise<Origin> {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    handler(request, response);
  });
  const origin = { base: '', requests, connections: 0 };
  server.on('connection', () => {
    origin.connections += 1;
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  origin.base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return origin;
}

/** Calls `onRequest` with each head of a request; `count` says how many there were before. */
export async function rawOrigin(
  t: Teardown,
  onRequest: (socket: Socket, head: string, count: number) => void,
): Promise<string> {
  let count = 0;
  const sockets = new Set<Socket>();
  const server = createRawServer((socket) => {
    sockets.add(socket);
    let head = '';
    socket.on('error', () => {});
    socket.on('data', (piece) => {
      head += piece.toString('latin1');
      while (head.includes('\r\n\r\n')) {
        const end = head.indexOf('\r\n\r\n') + 4;
        onRequest(socket, head.slice(0, end), count);
        head = head.slice(end);
        count += 1;
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export function rangeOf(text: string | undefined): [first: number, last: number] {
  const [, first, last] = /bytes=(\d+)-(\d+)/.exec(text ?? '') ?? [];
  return [Number(first), Number(last)];
}

export type Headers = Record<string, string | undefined>;

/** The answer to a range as it should be, but for `other` headers (undefined: left out). */
export function sendRange(
  request: IncomingMessage,
  response: ServerResponse,
  other: Headers = {},
  status = 206,
): void {
  const [first, last] = rangeOf(request.headers.range);
  const headers: Headers = {
    'Content-Range': `bytes ${first}-${last}/${OBJECT_BYTES}`,
    'Content-Length': String(last - first + 1),
    ETag: ETAG,
    'Last-Modified': MODIFIED,
    ...other,
  };
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) response.setHeader(name, value);
  }
  response.statusCode = status;
  response.end(OBJECT.subarray(first, last + 1));
}

/** A 206 as bytes, for servers that do not send all of it. */
export function rawRange(head: string, total = OBJECT_BYTES): Buffer {
  const [first, last] = rangeOf(head.toLowerCase());
  const lines = [
    'HTTP/1.1 206 Partial Content',
    `Content-Range: bytes ${first}-${last}/${total}`,
    `Content-Length: ${last - first + 1}`,
    `ETag: ${ETAG}`,
  ];
  const body = OBJECT.subarray(first, last + 1);
  return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), body]);
}

export async function open(
  t: Teardown,
  url: string,
  options: Partial<HttpOptions> = {},
): Promise<Source> {
  const target = parseTarget(url);
  if (target.kind !== 'http') throw new Error(`${url} is no web address`);
  const source = await openHttp(target, { timeoutMs: TIMEOUT_MS, ...options });
  t.teardown(() => source.close());
  return source;
}

/** A source that asks for nothing when it is opened. */
export function openLazily(t: Teardown, url: string, options: Partial<HttpOptions> = {}) {
  const expected = { sizeBytes: BigInt(OBJECT_BYTES), etag: ETAG, lastModified: MODIFIED };
  return open(t, url, { expected, ...options });
}

export interface Outcome {
  /** `message; hint [CODE]`; empty for success. */
  readonly line: string;
  readonly error: GatewayError | undefined;
  readonly into: Uint8Array;
  readonly landed: readonly number[];
  readonly landedBytes: number;
}

export async function readRange(
  source: Source,
  offsetBytes: number,
  lengthBytes: number,
  signal: AbortSignal = new AbortController().signal,
  onLanded: () => void = () => {},
): Promise<Outcome> {
  const into = new Uint8Array(lengthBytes);
  const landed: number[] = [];
  const land = (bytes: number): void => {
    landed.push(bytes);
    onLanded();
  };
  const error = await failure(
    source.read({ offsetBytes, into, urgent: true, signal, landed: land }),
  );
  return { line: error?.line ?? '', error, into, landed, landedBytes: landed.at(-1) ?? 0 };
}

/** The error of a promise; undefined if it resolves. */
export async function failure(promise: Promise<unknown>): Promise<GatewayError | undefined> {
  try {
    await promise;
    return undefined;
  } catch (error) {
    if (error instanceof GatewayError) return error;
    throw error;
  }
}

/** A certificate that signed itself; `path` is for --ca-file. */
export function selfSigned(
  folder: string,
  name = 'IP:127.0.0.1',
): { key: Buffer; cert: Buffer; path: string } {
  const [key, path] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const subject = ['-subj', '/CN=localhost', '-addext', `subjectAltName=${name}`];
  const words = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
  const files = ['-nodes', '-keyout', key, '-out', path, '-days', '2', ...subject];
  execFileSync('openssl', [...words, ...files], { stdio: 'ignore' });
  return { key: readFileSync(key), cert: readFileSync(path), path };
}
