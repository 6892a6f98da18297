/**
 * Owns: the connections to each origin, how often each one was used, and what all of them carry.
 * Runs in: server processes and the CLI, on the JS main thread.
 * Must not: ask for anything, follow a redirect, or try again.
 */
import type { Socket } from 'node:net';
import { buildConnector, Client, type Dispatcher, Pool } from 'undici';
import { Traffic } from '../source/traffic.ts';
import { Landing } from './landing.ts';
import { type HttpProxy, throughProxy } from './proxy.ts';

export interface PoolOptions {
  /** For a connection to stand, with its name look-up and TLS, ms. */
  readonly timeoutMs: number;
  /** Connections to one origin at most. */
  readonly connections: number;
  /** Certificates in PEM; they replace the ones of the system. */
  readonly ca: string | undefined;
  /** Undefined: none, whatever the environment says. */
  readonly proxy?: HttpProxy | undefined;
  /** Is told the descriptor of each connection that stands, which stays node's. */
  readonly connected?: ((fd: number) => void) | undefined;
}

/** Below what S3 and nginx allow (20 s and 75 s); an origin that names a shorter time gets it. */
const KEEP_ALIVE_MS = 15_000;

/** Redirects may lead to ever other origins; the connections to the last few are kept. */
const MAXIMUM_ORIGINS = 8;

/** The connection of one client: it has one at a time. */
export interface Connection {
  /** Requests that were sent on the connection that stands now. */
  requests: number;
  /** The head of the answer to the last of them was read to its end, its body was not. */
  isInBody: boolean;
}

/** What a request wants to know; it goes with the options of its dispatch. */
export interface Observed extends Dispatcher.DispatchOptions {
  takes(connection: Connection): void;
}

/** A client that says on which connection a request goes, which undici keeps to itself. */
class ObservedClient extends Client {
  readonly #connection: Connection;

  constructor(origin: URL, options: Client.Options, pool: PoolOptions) {
    const { timeoutMs, ca, proxy } = pool;
    const connection: Connection = { requests: 0, isInBody: false };
    const landing = new Landing(connection);
    const direct = buildConnector({
      timeout: timeoutMs,
      onread: landing.onread,
      ...(ca === undefined ? {} : { ca }),
    });
    const connect = proxy === undefined ? direct : throughProxy(proxy, timeoutMs, direct);
    super(origin, {
      ...options,
      connect: (target, done) => {
        connection.requests = 0;
        connection.isInBody = false;
        connect(target, (...result) => {
          const [error, socket] = result;
          if (error === null) {
            landing.serve(socket);
            pool.connected?.(descriptorOf(socket));
          }
          done(...result);
        });
      },
    });
    this.#connection = connection;
  }

  override dispatch(options: Observed, handler: Dispatcher.DispatchHandler): boolean {
    options.takes(this.#connection);
    return super.dispatch(options, handler);
  }
}

/** Node has no other name for it. */
function descriptorOf(socket: Socket): number {
  const { _handle } = socket as unknown as { readonly _handle?: { readonly fd: number } | null };
  return _handle?.fd ?? -1;
}

export class Pools {
  /** Told by whoever dispatches. */
  readonly traffic = new Traffic();
  readonly #options: PoolOptions;
  readonly #pools = new Map<string, Pool>();

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  dispatch(origin: string, options: Observed, handler: Dispatcher.DispatchHandler): void {
    const pool = this.#pools.get(origin) ?? this.#make(origin);
    // In the order of their last use.
    this.#pools.delete(origin);
    this.#pools.set(origin, pool);
    this.#forgetOldest();
    pool.dispatch(options, handler);
  }

  /** At once: requests that are under way fail. */
  async close(): Promise<void> {
    const pools = [...this.#pools.values()];
    this.#pools.clear();
    await Promise.all(pools.map((pool) => pool.destroy()));
  }

  #forgetOldest(): void {
    const [oldest] = this.#pools;
    if (oldest === undefined || this.#pools.size <= MAXIMUM_ORIGINS) return;
    const [origin, pool] = oldest;
    this.#pools.delete(origin);
    // Requests that are under way end first, each within its own time.
    void pool.close();
  }

  #make(origin: string): Pool {
    const { connections } = this.#options;
    return new Pool(origin, {
      connections,
      // One request at a time on a connection: a slow answer must not hold up another one.
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE_MS,
      // An exchange has its own clock, which is exact and starts when the request is sent.
      headersTimeout: 0,
      bodyTimeout: 0,
      factory: (url, options) => new ObservedClient(url, options as Client.Options, this.#options),
    });
  }
}
