/**
 * Owns: a proxy in front of a backend, whose connections a test resets, or leaves unread for a
 * while, as both ends live.
 * Runs in: device test processes.
 * Must not: end a connection softly by itself: what is cut here is a connection reset for both
 * ends.
 */
import { once } from 'node:events';
import { createServer, connect as dial, type Socket } from 'node:net';
import type { Scope } from './scope.ts';

export class BackendProxy {
  readonly #connections = new Map<Socket, Socket>();
  #target = '';

  /** In front of `backend`, HOST:PORT; listens on a port, or on the unix socket `path`. */
  static async start(scope: Scope, backend: string, path?: string): Promise<BackendProxy> {
    const proxy = new BackendProxy();
    const [host = '', port = ''] = backend.split(':');
    const server = createServer((near) => proxy.#join(near, dial(Number(port), host)));
    if (path === undefined) server.listen(0, '127.0.0.1');
    else server.listen(path);
    await once(server, 'listening');
    const address = server.address();
    const isPort = address !== null && typeof address === 'object';
    proxy.#target = isPort ? `127.0.0.1:${address.port}` : `nbd+unix:///?socket=${path}`;
    scope.defer(async () => {
      proxy.reset();
      server.close();
      await once(server, 'close');
    });
    return proxy;
  }

  get target(): string {
    return this.#target;
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** What the backend has sent over the connections that there are. */
  get receivedBytes(): number {
    return [...this.#connections.values()].reduce((sum, far) => sum + far.bytesRead, 0);
  }

  /** Cuts the oldest so many connections, or all. */
  reset(count = Number.POSITIVE_INFINITY): void {
    for (const [near, far] of [...this.#connections].slice(0, count)) {
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
  }

  /** Reads nothing more from the connections that there are. */
  leaveUnread(): UnreadConnections {
    const unread = [...this.#connections.keys()];
    for (const near of unread) near.pause();
    return {
      bytesRead: () => unread.reduce((sum, near) => sum + near.bytesRead, 0),
      readAll: async () => {
        const closed = unread.map((near) => near.destroyed || once(near, 'close'));
        for (const near of unread) near.resume();
        await Promise.all(closed);
      },
    };
  }

  #join(near: Socket, far: Socket): void {
    this.#connections.set(near, far);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      if (one.remoteFamily !== undefined) one.setNoDelay(true);
      one.pipe(other);
      one.on('error', () => other.resetAndDestroy());
      one.on('close', () => {
        other.destroySoon();
        this.#connections.delete(near);
      });
    }
  }
}

export interface UnreadConnections {
  /** By the proxy, until now. */
  bytesRead(): number;
  /** Reads what is still there, and what comes, until the other side's close. */
  readAll(): Promise<void>;
}
