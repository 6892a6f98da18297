/**
 * Owns: a proxy in front of a web server that passes every request on and lets a fault write the
 * answer: the right one, a changed one, a part of one, or none.
 * Runs in: device test processes, so that nobody in them may wait for a device synchronously.
 * Must not: use the product's code or constants, or change a byte that no fault changes.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, type IncomingHttpHeaders, request as sendRequest } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import type { Scope } from './scope.ts';

export interface Answer {
  readonly status: number;
  /** Content-Length is that of the body unless it is given. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** Answers one request, and says whether it did anything to it. */
export type Fault = (asked: Asked) => Promise<'struck' | 'honest'>;

export const honest: Fault = async (asked) => {
  await asked.send(await asked.origin());
  return 'honest';
};

/** Of one connection (RFC 9112): the proxy has its own. */
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'transfer-encoding']);

/** A request that waits for its answer. */
export class Asked {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  /** In lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly #socket: Socket;
  readonly #origin: { readonly port: number; readonly agent: Agent };

  constructor(head: string, socket: Socket, origin: { port: number; agent: Agent }) {
    const [first = '', ...lines] = head.trimEnd().split('\r\n');
    const [method = '', path = ''] = first.split(' ');
    this.method = method;
    this.path = path;
    this.headers = Object.fromEntries(
      lines.map((line) => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
      }),
    );
    this.#socket = socket;
    this.#origin = origin;
  }

  /** What the web server answers, without the headers of its connection; to `range`, if given. */
  async origin(range?: string): Promise<Answer> {
    const { method, path } = this;
    const headers = { ...this.headers };
    delete headers.connection;
    if (range !== undefined) headers.range = range;
    const request = sendRequest({ ...this.#origin, host: '127.0.0.1', method, path, headers });
    request.end();
    const [answer] = await once(request, 'response');
    const kept = endToEnd(answer.headers);
    // Faults change bodies; an answer to HEAD has none, and yet a length.
    if (method !== 'HEAD') delete kept['content-length'];
    return { status: answer.statusCode, headers: kept, body: await buffer(answer) };
  }

  async send(answer: Answer): Promise<void> {
    await this.write(rawAnswer(answer));
  }

  /** Resolves when the bytes are sent, or the connection is gone. */
  async write(bytes: Buffer): Promise<void> {
    if (this.#socket.destroyed || bytes.length === 0) return;
    await new Promise<void>((resolve) => this.#socket.write(bytes, () => resolve()));
  }

  end(): void {
    this.#socket.end();
  }

  reset(): void {
    this.#socket.resetAndDestroy();
  }
}

function endToEnd(headers: IncomingHttpHeaders): Record<string, string> {
  const kept = Object.entries(headers).filter(([name]) => !HOP_BY_HOP.has(name));
  return Object.fromEntries(kept.map(([name, value]) => [name, String(value)]));
}

/** An answer as it goes over a connection. */
export function rawAnswer({ status, headers, body }: Answer): Buffer {
  const all = { 'content-length': String(body.length), ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([Buffer.from(`HTTP/1.1 ${status} -\r\n${lines.join('')}\r\n`), body]);
}

export class HttpFaultProxy {
  /** What it does now. */
  fault: Fault = honest;
  /** Requests that a fault has struck. */
  struck = 0;

  readonly #agent = new Agent({ keepAlive: true });
  readonly #sockets = new Set<Socket>();
  readonly #originPort: number;
  #server: Server | undefined;
  #port = 0;

  private constructor(originPort: number) {
    this.#originPort = originPort;
  }

  /** In front of what listens on a port of 127.0.0.1. */
  static async start(scope: Scope, originPort: number): Promise<HttpFaultProxy> {
    const proxy = new HttpFaultProxy(originPort);
    await proxy.comeBack();
    scope.defer(async () => {
      await proxy.goAway();
      proxy.#agent.destroy();
    });
    return proxy;
  }

  get port(): number {
    return this.#port;
  }

  url(name: string): string {
    return `http://127.0.0.1:${this.#port}/${name}`;
  }

  /** Resets every connection, and takes no other. */
  async goAway(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = once(server, 'close');
    server.close();
    for (const socket of this.#sockets) socket.resetAndDestroy();
    await closed;
  }

  /** Listens again, at the same port. */
  async comeBack(): Promise<void> {
    assert(this.#server === undefined);
    const server = createServer((socket) => this.#serve(socket));
    this.#server = server;
    server.listen(this.#port, '127.0.0.1');
    await once(server, 'listening');
    this.#port = (server.address() as AddressInfo).port;
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#sockets.delete(socket));
    let head = '';
    socket.on('data', (piece) => {
      head += piece.toString('latin1');
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return;
      assert.equal(end + 4, head.length, 'one request at a time, and none has a body');
      const asked = new Asked(head, socket, { port: this.#originPort, agent: this.#agent });
      head = '';
      void this.#answer(asked);
    });
  }

  async #answer(asked: Asked): Promise<void> {
    try {
      if ((await this.fault(asked)) === 'struck') this.struck += 1;
    } catch {
      // The web server is gone, or the proxy: so is the answer.
      asked.reset();
    }
  }
}
