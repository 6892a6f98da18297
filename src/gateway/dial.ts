/**
 * Owns: from an endpoint to a connected stream: name look-up, every address in turn, one deadline.
 * Runs in: server processes and, for `info`, the CLI; on the JS main thread.
 * Must not: know a protocol, or wait beyond the deadline.
 */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { ByteStream, Endpoint } from '../protocols/adapter.ts';
import { GatewayError } from '../protocols/errors.ts';
import type { Addon, NativeEndpoint, NativeTransport } from './native.ts';

/** An attempt at one of several addresses gets at least this much of the time that is left. */
const MINIMUM_ATTEMPT_MS = 250;

/** A ByteStream over a transport of the addon. */
export class TransportStream implements ByteStream {
  readonly peer: string;
  /** What a queue takes over after the handshake. */
  readonly transport: NativeTransport;
  #deadlineMs: number;

  constructor(transport: NativeTransport, peer: string, deadlineMs: number) {
    this.transport = transport;
    this.peer = peer;
    this.#deadlineMs = deadlineMs;
  }

  setDeadline(timeoutMs: number): void {
    this.#deadlineMs = performance.now() + timeoutMs;
  }

  async send(bytes: Uint8Array): Promise<void> {
    try {
      await this.transport.send(bytes, remaining(this.#deadlineMs));
    } catch (error) {
      throw this.#streamError(error);
    }
  }

  async recv(lengthBytes: number): Promise<Buffer> {
    try {
      return await this.transport.recv(lengthBytes, remaining(this.#deadlineMs));
    } catch (error) {
      throw this.#streamError(error);
    }
  }

  close(): void {
    this.transport.close();
  }

  #streamError(cause: unknown): GatewayError {
    const code = errnoName(cause);
    if (code === 'ETIMEDOUT') {
      return new GatewayError('UNBD_BACKEND_TIMEOUT', `backend ${this.peer} is silent`, { cause });
    }
    if (code === 'ENODATA' || code === 'ECONNRESET' || code === 'EPIPE') {
      const text = `backend ${this.peer} closed the connection`;
      return new GatewayError('UNBD_BACKEND_CLOSED', text, { cause });
    }
    const text = `the connection to backend ${this.peer} broke: ${code}`;
    return new GatewayError('UNBD_BACKEND_IO', text, { cause });
  }
}

/**
 * Tries every address of the endpoint until one connects; the last failure is the one that is told.
 */
export async function dial(
  addon: Addon,
  endpoint: Endpoint,
  timeoutMs: number,
): Promise<TransportStream> {
  const deadlineMs = performance.now() + timeoutMs;
  const addresses = await resolve(endpoint, timeoutMs);
  let failure: GatewayError | undefined;
  for (const [index, address] of addresses.entries()) {
    const share = remaining(deadlineMs) / (addresses.length - index);
    const attemptMs = Math.ceil(Math.max(share, MINIMUM_ATTEMPT_MS));
    try {
      const transport = await addon.connectTransport(address, attemptMs);
      return new TransportStream(transport, nameOf(address), deadlineMs);
    } catch (error) {
      failure = connectError(address, error);
    }
  }
  throw failure ?? unknownHost(endpoint, undefined);
}

/** What `address` is called in messages. */
export function nameOf(address: NativeEndpoint): string {
  if (address.kind === 'unix') return `unix:${address.path.replace(/^\0/, '@')}`;
  if (address.kind === 'vsock') return `vsock:${address.cid}:${address.port}`;
  const host = address.address.includes(':') ? `[${address.address}]` : address.address;
  return `${host}:${address.port}`;
}

async function resolve(endpoint: Endpoint, timeoutMs: number): Promise<readonly NativeEndpoint[]> {
  if (endpoint.kind !== 'tcp') return [endpoint];
  const { host, port } = endpoint;
  if (isIP(host) !== 0) return [{ kind: 'tcp', address: host, port }];
  const found = await Promise.race([lookUp(endpoint, host), lookupTimeout(host, timeoutMs)]);
  return found.map((address) => ({ kind: 'tcp', address, port }) as const);
}

async function lookUp(endpoint: Endpoint, host: string): Promise<readonly string[]> {
  try {
    const found = await lookup(host, { all: true });
    return [...new Set(found.map(({ address }) => address))];
  } catch (cause) {
    throw unknownHost(endpoint, cause);
  }
}

/** getaddrinfo(3) cannot be told to hurry. */
function lookupTimeout(host: string, timeoutMs: number): Promise<never> {
  return new Promise((_, reject) => {
    const late = (): void => {
      const text = `the name service did not answer for backend host ${host}`;
      reject(
        new GatewayError('UNBD_BACKEND_TIMEOUT', text, {
          hint: 'check /etc/resolv.conf, or give an address',
        }),
      );
    };
    setTimeout(late, timeoutMs).unref();
  });
}

function unknownHost(endpoint: Endpoint, cause: unknown): GatewayError {
  const host = endpoint.kind === 'tcp' ? endpoint.host : '';
  const text = `backend host '${host}' is unknown`;
  const hint = `check its spelling and the name service: getent hosts ${host}`;
  return new GatewayError('UNBD_BACKEND_UNKNOWN_HOST', text, { hint, cause });
}

function connectError(address: NativeEndpoint, cause: unknown): GatewayError {
  const errno = errnoName(cause);
  // A vsock has no other word for a port that nobody listens on.
  const code = address.kind === 'vsock' && errno === 'ECONNRESET' ? 'ECONNREFUSED' : errno;
  const name = nameOf(address);
  const hints: Record<string, readonly [what: string, hint: string]> = {
    ECONNREFUSED: ['connection refused by', 'start the backend there, or check the port'],
    ENOENT: ['there is no socket', 'start the backend, or check the path'],
    EACCES: ['no permission to connect to', 'check the mode of the socket'],
    EHOSTUNREACH: ['no route to', 'check the address, the network and its firewalls'],
    ENETUNREACH: ['no route to', 'check the address and the network'],
    ENODEV: ['no vsock device to reach', 'load it with: modprobe vhost_vsock or vsock_loopback'],
  };
  if (code === 'ETIMEDOUT') {
    const text = `backend ${name} did not accept the connection in time`;
    const hint = 'check the address, the network and its firewalls';
    return new GatewayError('UNBD_BACKEND_TIMEOUT', text, { hint, cause });
  }
  const [what, hint] = hints[code] ?? [`${code} on connecting to`, 'check the address'];
  return new GatewayError('UNBD_BACKEND_UNREACHABLE', `${what} ${name}`, { hint, cause });
}

export function errnoName(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : String(error);
}

function remaining(deadlineMs: number): number {
  return Math.max(1, Math.ceil(deadlineMs - performance.now()));
}
