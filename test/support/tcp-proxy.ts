/**
 * Owns: a TCP proxy in front of a backend, whose connections a test resets while both ends live.
 * Runs in: device test processes.
 * Must not: end a connection softly: what is cut here is a connection reset for both ends.
 */
import { once } from 'node:events';
import { createServer, connect as dial, type Socket } from 'node:net';
import type { Scope } from './scope.ts';

export class TcpProxy {
  readonly #connections = new Map<Socket, Socket>();
  #port = 0;

  /** In front of `target`, HOST:PORT. */
  static async start(scope: Scope, target: string): Promise<TcpProxy> {
    const proxy = new TcpProxy();
    const [host = '', port = ''] = target.split(':');
    const server = createServer((near) => proxy.#join(near, dial(Number(port), host)));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    proxy.#port = address !== null && typeof address === 'object' ? address.port : 0;
    scope.defer(async () => {
      proxy.reset();
      server.close();
      await once(server, 'close');
    });
    return proxy;
  }

  get target(): string {
    return `127.0.0.1:${this.#port}`;
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Cuts the oldest so many connections, or all. */
  reset(count = Number.POSITIVE_INFINITY): void {
    for (const [near, far] of [...this.#connections].slice(0, count)) {
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
  }

  #join(near: Socket, far: Socket): void {
    this.#connections.set(near, far);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.setNoDelay(true);
      one.pipe(other);
      one.on('error', () => other.resetAndDestroy());
      one.on('close', () => {
        other.destroySoon();
        this.#connections.delete(near);
      });
    }
  }
}
