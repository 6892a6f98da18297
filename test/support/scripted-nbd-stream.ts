/**
 * Owns: the client's end for tests without the addon: a ByteStream over any Duplex, in-memory
 * pairs, and a dial over TCP and unix sockets.
 * Runs in: test processes.
 * Must not: read ahead of what was asked for as far as the caller can tell.
 */
import { strict as assert } from 'node:assert';
import { once } from 'node:events';
import { createConnection } from 'node:net';
import { Duplex } from 'node:stream';
import type { ByteStream, Endpoint } from '../../src/protocols/adapter.ts';
import { type ErrorCode, GatewayError } from '../../src/protocols/errors.ts';
import { endpointText } from '../../src/protocols/target.ts';
import { Inbox } from './scripted-nbd-peer.ts';

/** Two ends of one connection, without a socket. */
export function duplexPair(): readonly [Duplex, Duplex] {
  const ends: Duplex[] = [];
  const make = (other: number) =>
    new Duplex({
      read() {},
      write(piece: Buffer, _encoding, done) {
        ends[other]?.push(piece);
        done();
      },
      final(done) {
        ends[other]?.push(null);
        done();
      },
      destroy(error, done) {
        const end = ends[other];
        if (end !== undefined && !end.destroyed && !end.readableEnded) end.push(null);
        done(error);
      },
    });
  ends.push(make(1), make(0));
  return [ends[0] as Duplex, ends[1] as Duplex];
}

/** A ByteStream with what tests want to know about its use. */
export class TestStream implements ByteStream {
  readonly peer: string;
  readonly #duplex: Duplex;
  readonly #inbox: Inbox;
  #deadlineMs = Number.POSITIVE_INFINITY;
  closed = false;
  sends = 0;
  largestRecvBytes = 0;

  constructor(duplex: Duplex, peer = 'test:1') {
    this.peer = peer;
    this.#duplex = duplex;
    this.#inbox = new Inbox(duplex);
    duplex.on('error', () => undefined);
  }

  /** Bytes that came and that nobody asked for. */
  get unreadBytes(): number {
    return this.#inbox.availableBytes;
  }

  setDeadline(timeoutMs: number): void {
    this.#deadlineMs = performance.now() + timeoutMs;
  }

  async send(bytes: Uint8Array): Promise<void> {
    this.sends += 1;
    if (this.closed || this.#duplex.destroyed) throw failure('UNBD_BACKEND_CLOSED');
    this.#duplex.write(bytes);
  }

  async recv(lengthBytes: number): Promise<Buffer> {
    assert(Number.isInteger(lengthBytes) && lengthBytes > 0 && lengthBytes <= 1 << 20);
    this.largestRecvBytes = Math.max(this.largestRecvBytes, lengthBytes);
    if (this.closed) throw failure('UNBD_BACKEND_CLOSED');
    if (this.#inbox.availableBytes >= lengthBytes && performance.now() < this.#deadlineMs) {
      return (await this.#inbox.take(lengthBytes)) ?? Buffer.alloc(0);
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => {
      if (this.#deadlineMs === Number.POSITIVE_INFINITY) return;
      timer = setTimeout(resolve, Math.max(0, this.#deadlineMs - performance.now()), 'late');
    });
    const bytes = await Promise.race([this.#inbox.take(lengthBytes), late]);
    clearTimeout(timer);
    if (bytes === 'late') throw failure('UNBD_BACKEND_TIMEOUT');
    if (bytes === undefined) throw failure('UNBD_BACKEND_CLOSED');
    return bytes;
  }

  close(): void {
    this.closed = true;
    this.#duplex.destroy();
  }
}

function failure(code: ErrorCode): GatewayError {
  return new GatewayError(code, 'the test stream says so');
}

/** A connected stream to a TCP or unix endpoint. */
export async function dialForTests(endpoint: Endpoint): Promise<TestStream> {
  assert(endpoint.kind !== 'vsock');
  const socket =
    endpoint.kind === 'unix'
      ? createConnection(endpoint.path)
      : createConnection(endpoint.port, endpoint.host);
  await once(socket, 'connect');
  if (endpoint.kind === 'tcp') socket.setNoDelay(true);
  return new TestStream(socket, endpointText(endpoint));
}
