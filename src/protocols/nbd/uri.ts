/**
 * Owns: NBD URIs: nbd://, nbd+unix:// and nbd+vsock://, as the NBD URI specification (doc/uri.md of
 * the NBD project) has them; vsock is the extension that libnbd and QEMU know.
 * Runs in: any process; pure.
 * Must not: guess: what the specification does not define is refused.
 */
import { resolve } from 'node:path';
import type { Endpoint } from '../adapter.ts';
import { malformed } from '../target-error.ts';
import { DEFAULT_PORT, parseAuthority } from './authority.ts';

/** sockaddr_un.sun_path; a path in the file system also needs its final NUL. */
const SUN_PATH_BYTES = 108;
const VMADDR_ANY = 0xffffffff;

export interface NbdAddress {
  readonly endpoint: Endpoint;
  readonly exportName: string;
}

/** `rest` is what follows `scheme://`; the scheme is one of the three, in lower case. */
export function parseNbdUri(text: string, scheme: string, rest: string): NbdAddress {
  if (rest.includes('#')) {
    throw malformed(text, 'an NBD URI has no fragment', 'write # as %23');
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to refuse
  if (/[\u0000-\u0020\u007f]/.test(rest)) {
    throw malformed(text, 'it holds a space or a control character', 'write a space as %20');
  }
  const parts = /^([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/s.exec(rest);
  const authority = parts?.[1] ?? '';
  const exportName = decodePercent(text, parts?.[2] ?? '');
  const query = parseQuery(text, parts?.[3]);
  if (scheme === 'nbd+unix') {
    return { endpoint: unixEndpoint(text, authority, query), exportName };
  }
  refuseKeys(text, query, []);
  const endpoint =
    scheme === 'nbd' ? parseAuthority(text, authority, true) : vsockEndpoint(text, authority);
  return { endpoint, exportName };
}

function unixEndpoint(text: string, authority: string, query: Map<string, string>): Endpoint {
  const cure = 'write nbd+unix:///EXPORT?socket=/PATH';
  if (authority !== '') throw malformed(text, 'a unix socket has no host', cure);
  refuseKeys(text, query, ['socket']);
  const socket = query.get('socket');
  if (socket === undefined || socket === '' || socket === '\0') {
    throw malformed(text, 'it names no socket', cure);
  }
  const abstract = socket.startsWith('\0');
  if (socket.includes('\0', 1)) throw malformed(text, 'its socket path holds a NUL byte', cure);
  const path = abstract ? socket : resolve(socket);
  if (Buffer.byteLength(path) > SUN_PATH_BYTES - (abstract ? 0 : 1)) {
    throw malformed(text, 'its socket path is too long', 'use a path of at most 107 bytes');
  }
  return { kind: 'unix', path };
}

function vsockEndpoint(text: string, authority: string): Endpoint {
  const cure = 'write nbd+vsock://CID:PORT/EXPORT, where CID 2 is the host';
  const match = /^([0-9]{1,10})(?::([0-9]{0,10}))?$/.exec(authority);
  if (match?.[1] === undefined) throw malformed(text, 'its vsock address is not valid', cure);
  const cid = Number(match[1]);
  const port = match[2] === undefined || match[2] === '' ? DEFAULT_PORT : Number(match[2]);
  if (cid === 0 || cid >= VMADDR_ANY || port >= VMADDR_ANY) {
    throw malformed(text, 'its vsock address is not valid', cure);
  }
  return { kind: 'vsock', cid, port };
}

function parseQuery(text: string, query: string | undefined): Map<string, string> {
  const pairs = new Map<string, string>();
  for (const pair of (query ?? '').split('&')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const key = decodePercent(text, equals === -1 ? pair : pair.slice(0, equals));
    if (pairs.has(key)) {
      throw malformed(text, `its query has "${key}" twice`, 'name it once');
    }
    pairs.set(key, equals === -1 ? '' : decodePercent(text, pair.slice(equals + 1)));
  }
  return pairs;
}

function refuseKeys(text: string, query: Map<string, string>, known: readonly string[]): void {
  for (const key of query.keys()) {
    if (known.includes(key)) continue;
    if (/^tls-/.test(key)) throw malformed(text, 'TLS is not supported yet', `leave out ${key}`);
    if (key === 'socket') {
      throw malformed(text, 'a socket belongs to nbd+unix://', 'write nbd+unix:///?socket=/PATH');
    }
    const cure = known.length === 0 ? 'leave it out' : `known: ${known.join(', ')}`;
    throw malformed(text, `its query has the unknown key "${key}"`, cure);
  }
}

/** Percent-decoded text; what is not UTF-8 afterwards is refused. */
export function decodePercent(text: string, encoded: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch {
    throw malformed(text, 'its %-encoding is not valid UTF-8', 'write a % as %25');
  }
}

/** The inverse of decodePercent; slashes stay readable. */
export function encodePercent(plain: string): string {
  return encodeURIComponent(plain).replaceAll('%2F', '/');
}
