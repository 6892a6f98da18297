/**
 * Owns: the controller's socket: who may connect, whose request goes where, when nothing is left to
 * do.
 * Runs in: the controller; the same in `connect --foreground`, on a socket of its own.
 * Must not: serve I/O or decide about devices; operations.ts does.
 */
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import type { Arrivals } from './arrivals.ts';
import { boundedListener } from './events.ts';
import { Heartbeat } from './heartbeat.ts';
import type { Host } from './host.ts';
import { type ControllerApi, DEVICE_EVENT, type DeviceEvent } from './messages.ts';
import type { QueuesEvent } from './native.ts';
import type { Operations } from './operations.ts';
import { followGrowth } from './resize.ts';
import { Peer, type RequestContext } from './rpc.ts';
import {
  BACKEND_EVENT,
  type BackendEvent,
  QUEUES_EVENT,
  type ServerHello,
} from './server-messages.ts';

const HELLO_TIMEOUT_MS = 5_000;
const MAXIMUM_CONNECTIONS = 512;
/** Long enough for a script's next command, short enough to leave a host clean. */
export const IDLE_EXIT_MS = 60_000;

export class Controller {
  /** Resolves when it has ended: idle, told to, or closed. */
  readonly ended: Promise<void>;
  readonly #host: Host;
  readonly #operations: Operations;
  readonly #arrivals: Arrivals;
  readonly #server: Server;
  readonly #heartbeat: Heartbeat;
  readonly #clients = new Set<Peer>();
  readonly #idleExitMs: number | undefined;
  #idleTimer: NodeJS.Timeout | undefined;
  #resolveEnded: () => void = () => undefined;

  /** `idleExitMs` undefined: it stays until it is told to end. */
  constructor(
    host: Host,
    arrivals: Arrivals,
    operations: Operations,
    idleExitMs: number | undefined,
  ) {
    this.#host = host;
    this.#arrivals = arrivals;
    this.#operations = operations;
    this.#idleExitMs = idleExitMs;
    this.#heartbeat = new Heartbeat(host);
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    this.#server = createServer((socket) => void this.#accept(socket));
    this.#server.maxConnections = MAXIMUM_CONNECTIONS;
  }

  /** Listens, in place of a socket that a dead process left. The caller holds the lock on that. */
  async listen(): Promise<void> {
    const path = this.#host.socketPath;
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(path, resolve);
    });
    chmodSync(path, 0o600);
    this.#heartbeat.start();
    this.#restartIdleTimer();
  }

  /** Ends; devices and their server processes stay. */
  close(): void {
    clearTimeout(this.#idleTimer);
    this.#heartbeat.stop();
    this.#host.spares.close();
    rmSync(this.#host.socketPath, { force: true });
    this.#server.close();
    for (const client of this.#clients) client.close();
    for (const device of this.#host.devices.values()) device.peer?.close();
    this.#resolveEnded();
  }

  async #accept(socket: Socket): Promise<void> {
    let peer: Peer;
    try {
      peer = await Peer.open(socket, {
        role: 'controller',
        helloTimeoutMs: HELLO_TIMEOUT_MS,
        otherSide: 'a client',
        closedCode: 'UNBD_SERVER_PROCESS',
        onRequest: (name, argument, context) => this.#request(name, argument, context),
        onEvent: (name, argument, from) => this.#event(name, argument, from),
      });
    } catch (error) {
      this.#host.log('warning', undefined, `refused a connection: ${asGatewayError(error).line}`);
      return;
    }
    if (peer.remote.role === 'server-process') {
      await this.#serverProcessCame(peer);
      return;
    }
    this.#clients.add(peer);
    this.#restartIdleTimer();
    await peer.closed;
    this.#clients.delete(peer);
    this.#restartIdleTimer();
  }

  async #serverProcessCame(peer: Peer): Promise<void> {
    const { token, record } = (peer.remote.details ?? {}) as Partial<ServerHello>;
    if (typeof token !== 'string') {
      peer.close();
      return;
    }
    if (this.#arrivals.arrived(token, peer)) return;
    const device = await this.#operations.adoptFrom(token, record);
    if (device === 'foreign') {
      peer.close();
      return;
    }
    if (device !== undefined) {
      device.attachPeer(peer);
      return;
    }
    const { pid } = peer.remote;
    this.#host.log('warning', undefined, `server process ${pid} serves no device; it is ended`);
    await peer.request('shutdown', null, { timeoutMs: HELLO_TIMEOUT_MS }).catch(() => undefined);
    peer.close();
  }

  #event(name: string, argument: unknown, from: Peer): void {
    if (from.remote.role !== 'server-process') return;
    const device = [...this.#host.devices.values()].find((one) => one.peer === from);
    if (name === QUEUES_EVENT) device?.queuesTold(argument as QueuesEvent);
    else if (name === BACKEND_EVENT && device !== undefined) {
      const event = argument as BackendEvent;
      device.backendTold(event);
      if (event.grown !== undefined) void followGrowth(this.#host, device, event.grown);
    }
  }

  async #request(name: string, argument: unknown, context: RequestContext): Promise<unknown> {
    if (context.peer.remote.role === 'server-process') {
      throw new GatewayError('UNBD_CONTROLLER', 'a server process asks for nothing');
    }
    switch (name as keyof ControllerApi) {
      case 'ping':
        return this.#operations.ping();
      case 'connect':
        return this.#operations.connect(argument as ControllerApi['connect']['argument'], context);
      case 'disconnect':
        return this.#operations.disconnect(
          argument as ControllerApi['disconnect']['argument'],
          context.signal,
        );
      case 'recover':
        return this.#operations.recover((argument as ControllerApi['recover']['argument']).device);
      case 'events':
        return this.#follow(context);
      case 'list':
        return this.#operations.list((argument as ControllerApi['list']['argument']).verbose);
      case 'shutdown':
        return this.#shutdown((argument as ControllerApi['shutdown']['argument']).keepDevices);
      default:
        throw new GatewayError('UNBD_VERSION', `unknown request '${name}'`, {
          hint: 'the controller is of another version: ublk-nbd daemon --help',
        });
    }
  }

  /** Ends with the request. */
  #follow({ peer, signal }: RequestContext): Promise<null> {
    return new Promise((resolve) => {
      const send = (event: DeviceEvent): void => peer.event(DEVICE_EVENT, event);
      const stop = this.#host.subscribe(boundedListener(send, () => peer.unsentBytes));
      signal.addEventListener('abort', () => {
        stop();
        resolve(null);
      });
    });
  }

  #shutdown(keepDevices: boolean): null {
    const count = this.#operations.liveDevices();
    if (count > 0 && !keepDevices) {
      throw new GatewayError('UNBD_DEVICE_BUSY', `${count} devices are connected`, {
        hint: 'run: ublk-nbd disconnect --all',
      });
    }
    setImmediate(() => this.close());
    return null;
  }

  #restartIdleTimer(): void {
    clearTimeout(this.#idleTimer);
    if (this.#idleExitMs === undefined) return;
    this.#idleTimer = setTimeout(() => {
      if (this.#clients.size === 0 && this.#operations.liveDevices() === 0) this.close();
      else this.#restartIdleTimer();
    }, this.#idleExitMs);
  }
}
