/**
 * Owns: `HOST[:PORT]` as plain targets and nbd:// URIs write it, with IPv6 literals and zones.
 * Runs in: any process; pure.
 * Must not: look a name up.
 */
import { isIPv4, isIPv6 } from 'node:net';
import type { Endpoint } from '../adapter.ts';
import { malformed } from '../target-error.ts';

/** The port that IANA assigned to NBD. */
export const DEFAULT_PORT = 10809;

const PORT_CURE = 'write host:port with a port from 1 to 65535';

/**
 * Without brackets, text with two or more colons is an IPv6 literal and has no port. In a URI the
 * `%` of a zone is written `%25` (RFC 6874), an absent host is localhost, and an empty port is the
 * default one (RFC 3986).
 */
export function parseAuthority(text: string, authority: string, inUri: boolean): Endpoint {
  if (authority.includes('@')) {
    throw malformed(text, 'it holds a user name', 'NBD has no log-in: write host:port/export');
  }
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/s.exec(authority);
  if (bracketed?.[1] !== undefined) {
    const literal = inUri ? bracketed[1].replace(/%25/, '%') : bracketed[1];
    return { kind: 'tcp', host: ipv6(text, literal), port: parsePort(text, bracketed[2], inUri) };
  }
  if (authority.split(':').length > 2) {
    if (inUri) throw malformed(text, 'its IPv6 address has no brackets', 'write [ADDRESS]:PORT');
    return { kind: 'tcp', host: ipv6(text, authority), port: DEFAULT_PORT };
  }
  const [host = '', port] = authority.split(':');
  if (host === '' && inUri) {
    return { kind: 'tcp', host: 'localhost', port: parsePort(text, port, inUri) };
  }
  return { kind: 'tcp', host: hostName(text, host), port: parsePort(text, port, inUri) };
}

function ipv6(text: string, literal: string): string {
  if (!isIPv6(literal)) {
    throw malformed(text, 'its IPv6 address is not valid', 'write [ADDRESS]:PORT/EXPORT');
  }
  const zone = /%(.*)$/s.exec(literal)?.[1];
  if (zone !== undefined && !/^[A-Za-z0-9_.-]{1,15}$/.test(zone)) {
    throw malformed(text, 'its IPv6 zone is not an interface name', 'write [fe80::1%eth0]:PORT');
  }
  return literal;
}

function hostName(text: string, host: string): string {
  if (host === '') throw malformed(text, 'it names no host', 'write host:port/export');
  if (/^[0-9.]+$/.test(host)) {
    if (isIPv4(host)) return host;
    throw malformed(text, `"${host}" is not an IPv4 address`, 'write host:port/export');
  }
  if (host.length > 253 || !/^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$/.test(host)) {
    throw malformed(text, 'its host name is not valid', 'write host:port/export, in ASCII');
  }
  return host;
}

function parsePort(text: string, port: string | undefined, emptyIsDefault: boolean): number {
  if (port === undefined || (port === '' && emptyIsDefault)) return DEFAULT_PORT;
  const value = /^[0-9]{1,5}$/.test(port) ? Number(port) : 0;
  if (value < 1 || value > 65535) throw malformed(text, 'its port is not valid', PORT_CURE);
  return value;
}
