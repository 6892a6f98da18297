/**
 * Owns: the controller's socket: who may connect, whose request goes where, when nothing is left to
 * do.
 * Runs in: the controller; the same in `connect --foreground`, on a socket of its own.
 * Must not: serve I/O or decide about devices; operations.ts does.
 */
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import type { Arrivals } from './arrivals.ts';
import type { Device } from './device.ts';
import { followEvents } from './events.ts';
import { Heartbeat } from './heartbeat.ts';
import type { Host } from './host.ts';
import type { ControllerApi } from './messages.ts';
import type { QueuesEvent } from './native.ts';
import type { Operations } from './operations.ts';
import { followGrowth } from './resize.ts';
import { Peer, type RequestContext } from './rpc.ts';
import {
  BACKEND_EVENT,
  type BackendEvent,
  type ControllerHello,
  GOODBYE_EVENT,
  QUEUES_EVENT,
  type ServerHello,
} from './server-messages.ts';

const HELLO_TIMEOUT_MS = 5_000;
const MAXIMUM_CONNECTIONS = 512;
/** Above what one handshake takes; a connect that waits longer is not waited for. */
const SETTLE_TIMEOUT_MS = 30_000;
const SETTLE_POLL_MS = 20;
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
  /** What a server process told before it was known whose it is. */
  readonly #unheard = new WeakMap<Peer, BackendEvent>();
  readonly #idleExitMs: number | undefined;
  #idleTimer: NodeJS.Timeout | undefined;
  /** Requests that are being answered, but for those that only listen. */
  #atWork = 0;
  #isEnding = false;
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
    for (const { peer } of this.#host.devices.values()) {
      peer?.event(GOODBYE_EVENT, null);
      peer?.close();
    }
    this.#resolveEnded();
  }

  async #accept(socket: Socket): Promise<void> {
    let peer: Peer;
    try {
      peer = await Peer.open(socket, {
        role: 'controller',
        details: { onDemand: this.#idleExitMs !== undefined } satisfies ControllerHello,
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
      const told = this.#unheard.get(peer);
      if (told !== undefined) this.#backendTold(device, told);
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
    if (name !== BACKEND_EVENT) return;
    if (device === undefined) this.#unheard.set(from, argument as BackendEvent);
    else this.#backendTold(device, argument as BackendEvent);
  }

  #backendTold(device: Device, event: BackendEvent): void {
    device.backendTold(event);
    if (event.grown !== undefined) void followGrowth(this.#host, device, event.grown);
  }

  async #request(name: string, argument: unknown, context: RequestContext): Promise<unknown> {
    if (context.peer.remote.role === 'server-process') {
      throw new GatewayError('UNBD_CONTROLLER', 'a server process asks for nothing');
    }
    switch (name as keyof ControllerApi) {
      case 'ping':
        return { ...this.#operations.ping(), isForeground: this.#idleExitMs === undefined };
      case 'events':
        return followEvents(this.#host.subscribe, context);
      case 'shutdown':
        return this.#shutdown((argument as ControllerApi['shutdown']['argument']).keepDevices);
      default:
        return this.#work(name, argument, context);
    }
  }

  async #work(name: string, argument: unknown, context: RequestContext): Promise<unknown> {
    if (this.#isEnding) {
      throw new GatewayError('UNBD_CONTROLLER', 'the controller is ending', {
        hint: 'run the command again',
      });
    }
    this.#atWork += 1;
    try {
      return await this.#operate(name, argument, context);
    } finally {
      this.#atWork -= 1;
    }
  }

  #operate(name: string, argument: unknown, context: RequestContext): Promise<unknown> {
    switch (name as keyof ControllerApi) {
      case 'connect':
        return this.#operations.connect(argument as ControllerApi['connect']['argument'], context);
      case 'disconnect':
        return this.#operations.disconnect(
          argument as ControllerApi['disconnect']['argument'],
          context.signal,
        );
      case 'recover':
        return this.#operations.recover((argument as ControllerApi['recover']['argument']).device);
      case 'upgrade':
        return this.#operations.upgrade((argument as ControllerApi['upgrade']['argument']).device);
      case 'list':
        return this.#operations.list((argument as ControllerApi['list']['argument']).verbose);
      default:
        throw new GatewayError('UNBD_VERSION', `unknown request '${name}'`, {
          hint: 'the controller is of another version: ublk-nbd daemon --help',
        });
    }
  }

  /** What is under way is finished before; a client would else hear of a connection that ended. */
  async #shutdown(keepDevices: boolean): Promise<null> {
    const count = this.#operations.liveDevices();
    if (count > 0 && !keepDevices) {
      throw new GatewayError('UNBD_DEVICE_BUSY', `${count} devices are connected`, {
        hint: 'run: ublk-nbd disconnect --all',
      });
    }
    const deadlineMs = performance.now() + SETTLE_TIMEOUT_MS;
    while (this.#atWork > 0 || this.#operations.isBusy) {
      if (performance.now() >= deadlineMs) {
        throw new GatewayError('UNBD_DEVICE_BUSY', 'the controller is at work on a device', {
          hint: 'try again when that has ended; see: ublk-nbd list',
        });
      }
      await delay(SETTLE_POLL_MS);
    }
    this.#isEnding = true;
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
