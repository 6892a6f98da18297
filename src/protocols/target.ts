/**
 * Owns: how a person names what to attach: every form of TARGET to a Target, and a Target back to
 * its canonical text.
 * Runs in: any process; pure, except that a relative path is resolved against the working folder.
 * Must not: look up names, open files, or repeat a user name, password or signature from a target
 * in a message.
 *
 * Forms: `HOST[:PORT][/EXPORT]`, `nbd://`, `nbd+unix://`, `nbd+vsock://` (NBD URI specification),
 * `http://`, `https://`, `s3://BUCKET/KEY[?versionId=ID]`, `null:SIZE`, `memory:SIZE`, `file:PATH`.
 * A host that is called `null`, `memory` or `file` is written `nbd://null`.
 */
import { resolve } from 'node:path';
import type { Endpoint, Target } from './adapter.ts';
import { MAXIMUM_SIZE_BYTES } from './geometry.ts';
import { httpText, parseHttpUrl } from './http/url.ts';
import { parseAuthority } from './nbd/authority.ts';
import { decodePercent, encodePercent, parseNbdUri } from './nbd/uri.ts';
import { parseS3Uri, s3Text } from './s3/uri.ts';
import { formatSize, readSize } from './size.ts';
import { checkExportName, malformed } from './target-error.ts';

export interface TargetOptions {
  /** The export that `-N` names. */
  readonly exportName?: string;
}

/** A Target without its text. */
export type TargetParts = Target extends infer T
  ? T extends Target
    ? Omit<T, 'text'>
    : never
  : never;

const NBD_SCHEMES = new Set(['nbd', 'nbd+unix', 'nbd+vsock']);

/** Why a scheme that people may try is refused, and what to write instead. */
const REFUSED_SCHEMES: Readonly<Record<string, readonly [why: string, cure: string]>> = {
  nbds: ['TLS is not supported yet', 'use nbd:// on a network that you trust, or a tunnel'],
  'nbds+unix': ['TLS is not supported yet', 'use nbd+unix://'],
  'nbds+vsock': ['TLS is not supported yet', 'use nbd+vsock://'],
  'nbd+tcp': ['nbd+tcp is not a scheme of the NBD URI specification', 'write nbd://'],
  'nbd+ssh': ['nbd+ssh runs a command and is not supported', 'use an ssh tunnel and nbd://'],
};

/**
 * What the user typed as a Target. Throws UNBD_TARGET_MALFORMED: one line of cause, one of cure.
 */
export function parseTarget(text: string, options: TargetOptions = {}): Target {
  if (text === '') throw malformed(text, 'it is empty', 'name a backend: host:port/export');
  const parts = parseParts(text, options);
  return { ...parts, text: formatTarget(parts) } as Target;
}

function parseParts(text: string, options: TargetOptions): TargetParts {
  const local = /^(null|memory|file):(.*)$/is.exec(text);
  if (local?.[1] !== undefined && local[2] !== undefined) {
    if (options.exportName !== undefined) {
      throw malformed(text, 'a local target has no exports', 'leave out -N');
    }
    return parseLocal(text, local[1].toLowerCase(), local[2]);
  }
  const uri = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/is.exec(text);
  if (uri?.[1] === undefined || uri[2] === undefined) return parsePlain(text, options);
  const scheme = uri[1].toLowerCase();
  const refused = Object.hasOwn(REFUSED_SCHEMES, scheme) ? REFUSED_SCHEMES[scheme] : undefined;
  if (refused !== undefined) throw malformed(text, refused[0], refused[1]);
  if (scheme === 'http' || scheme === 'https') {
    if (options.exportName !== undefined) {
      throw malformed(text, 'an HTTP image has no exports', 'leave out -N');
    }
    return { kind: 'http', url: parseHttpUrl(text, scheme) };
  }
  if (scheme === 's3') {
    if (options.exportName !== undefined) {
      throw malformed(text, 'an S3 image has no exports', 'leave out -N');
    }
    return parseS3Uri(text, uri[2]);
  }
  if (!NBD_SCHEMES.has(scheme)) {
    throw malformed(
      text,
      `the scheme ${scheme}:// is unknown`,
      'use nbd://, nbd+unix://, https://, s3:// or host:port',
    );
  }
  const { endpoint, exportName } = parseNbdUri(text, scheme, uri[2]);
  return { kind: 'nbd', endpoint, exportName: chooseExport(text, exportName, options) };
}

/**
 * `HOST[:PORT][/EXPORT]`: the export is everything after the first slash, as it stands, nothing is
 * decoded.
 */
function parsePlain(text: string, options: TargetOptions): TargetParts {
  if (/^nbds?:/i.test(text) && !/^nbds?:\d+(\/|$)/i.test(text)) {
    throw malformed(text, 'it is not an NBD URI', 'write nbd://HOST:PORT/EXPORT');
  }
  if (/^unix:/i.test(text)) {
    throw malformed(text, 'it is not an NBD URI', 'write nbd+unix:///EXPORT?socket=/PATH');
  }
  const slash = text.indexOf('/');
  const authority = slash === -1 ? text : text.slice(0, slash);
  if (authority === '' || authority === '.' || authority === '..') {
    throw malformed(text, 'it names no host', 'for a local image write file:PATH');
  }
  const endpoint = parseAuthority(text, authority, false);
  const exportName = slash === -1 ? '' : text.slice(slash + 1);
  return { kind: 'nbd', endpoint, exportName: chooseExport(text, exportName, options) };
}

/** The export from the target and the one from `-N` must not contradict each other. */
function chooseExport(text: string, inTarget: string, options: TargetOptions): string {
  const asked = options.exportName;
  if (asked !== undefined && inTarget !== '' && asked !== inTarget) {
    throw malformed(text, 'it names another export than -N does', 'name the export once');
  }
  const exportName = asked ?? inTarget;
  checkExportName(text, exportName);
  return exportName;
}

function parseLocal(text: string, kind: string, rest: string): TargetParts {
  if (kind !== 'file') {
    return { kind: kind === 'null' ? 'null' : 'memory', sizeBytes: parseSize(text, rest) };
  }
  let path = rest;
  if (rest.startsWith('//')) {
    const uri = /^\/\/(?:localhost)?(\/.*)$/is.exec(rest);
    if (uri?.[1] === undefined) {
      throw malformed(text, 'a file: target is on this machine', 'write file:///PATH or file:PATH');
    }
    path = decodePercent(text, uri[1]);
  }
  if (path === '') throw malformed(text, 'it names no file', 'write file:PATH');
  if (path.includes('\0')) throw malformed(text, 'the path holds a NUL byte', 'write file:PATH');
  return { kind: 'file', path: resolve(path) };
}

/** `1048576`, `1024K`, `1M`: binary units. */
function parseSize(text: string, size: string): bigint {
  const cure = 'write a size as 512M, 10G or a number of bytes';
  const sizeBytes = readSize(size);
  if (sizeBytes === undefined) throw malformed(text, 'its size is not a number', cure);
  if (sizeBytes === 0n) throw malformed(text, 'its size is 0', cure);
  if (sizeBytes > MAXIMUM_SIZE_BYTES) throw malformed(text, 'its size is over 2^63 - 1', cure);
  return sizeBytes;
}

/**
 * The canonical text; parseTarget of it gives the same target, but for a web address with a query:
 * its text does not hold the query.
 */
export function formatTarget(target: TargetParts): string {
  if (target.kind === 'file') return `file:${target.path}`;
  if (target.kind === 'http') return httpText(target.url);
  if (target.kind === 's3') return s3Text(target);
  if (target.kind !== 'nbd') return `${target.kind}:${formatSize(target.sizeBytes)}`;
  const { endpoint, exportName } = target;
  const path = exportName === '' ? '' : `/${encodePercent(exportName)}`;
  if (endpoint.kind === 'unix') {
    return `nbd+unix://${path || '/'}?socket=${encodePercent(endpoint.path)}`;
  }
  if (endpoint.kind === 'vsock') return `nbd+vsock://${endpoint.cid}:${endpoint.port}${path}`;
  return `nbd://${bracketed(endpoint.host).replace('%', '%25')}:${endpoint.port}${path}`;
}

/**
 * An endpoint for messages: `host:port`, `[::1]:port`, `unix:/path`, `unix:@name` (abstract),
 * `vsock:cid:port`.
 */
export function endpointText(endpoint: Endpoint): string {
  if (endpoint.kind === 'unix') return `unix:${endpoint.path.replace(/^\0/, '@')}`;
  if (endpoint.kind === 'vsock') return `vsock:${endpoint.cid}:${endpoint.port}`;
  return `${bracketed(endpoint.host)}:${endpoint.port}`;
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
