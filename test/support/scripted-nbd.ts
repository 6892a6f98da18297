/**
 * Owns: a scripted NBD backend on a TCP port or unix socket: correct, or with one fault by name.
 * Runs in: test processes.
 * Must not: import the product; its constants are its own.
 */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type BackendSettings,
  type Counters,
  DEFAULT_SETTINGS,
  type Entered,
  newCounters,
  patternImage,
  playHandshake,
} from './scripted-nbd-backend.ts';
import { ForgetfulDisk } from './scripted-nbd-disk.ts';
import type { HandshakeFault } from './scripted-nbd-faults.ts';
import { handshakeFaults } from './scripted-nbd-handshake-faults.ts';
import { listFaults } from './scripted-nbd-list-faults.ts';
import { Peer, PeerGone } from './scripted-nbd-peer.ts';
import { type FaultHook, type Request, serve } from './scripted-nbd-transmission.ts';
import {
  commandNumber,
  type TransmissionFault,
  transmissionFaults,
} from './scripted-nbd-transmission-faults.ts';
import { OPT } from './scripted-nbd-wire.ts';

export { handshakeFaults, listFaults, type TransmissionFault, transmissionFaults };

export interface ScriptedOptions {
  readonly settings?: Partial<BackendSettings>;
  /** For the n-th connection, from 0: settings that differ. */
  readonly settingsOf?: (connection: number) => Partial<BackendSettings>;
  /** Name of a fault of any table. */
  readonly fault?: string;
  /**
   * Transmission faults hit requests that start in [hitFromBytes, hitToBytes); FLUSH always.
   * Default: the second MiB, where nobody looks while a device comes up.
   */
  readonly hitFromBytes?: bigint;
  readonly hitToBytes?: bigint;
  /** How often a transmission fault is played; for ever unless given. */
  readonly hits?: number;
  /** 0: any free port. */
  readonly port?: number;
  readonly host?: string;
  /** A unix socket instead of a port. */
  readonly socketPath?: string;
  /** Replies wait this long, and overlap. */
  readonly delayMs?: number;
  /** The greeting waits this long. */
  readonly greetingDelayMs?: number;
  /** Further clients are taken, and hung up on before the greeting. */
  readonly maxClients?: number;
  /** After so many connections in all, every later one is hung up on before the greeting. */
  readonly connectionsMax?: number;
  /** A file with the image, which forgets what was not flushed when the process is killed. */
  readonly disk?: string;
  /** Bytes of replies leave in pieces of this size. */
  readonly pieceBytes?: number;
}

export interface ScriptedNbd {
  /** 0 on a unix socket. */
  readonly port: number;
  /** As a person would write it for the CLI. */
  readonly target: string;
  readonly counters: Counters;
  /** What clients read and wrote. */
  readonly image: Buffer;
  /** Mistakes of clients: what no correct client would have sent. */
  readonly clientErrors: readonly string[];
  /** Hangs up on all clients; the backend goes on. */
  dropClients(): void;
  close(): Promise<void>;
}

interface Faults {
  readonly handshake: HandshakeFault | undefined;
  readonly transmission: TransmissionFault | undefined;
}

function findFault(name: string | undefined): Faults {
  const handshake = [...handshakeFaults, ...listFaults].find((fault) => fault.name === name);
  const transmission = transmissionFaults.find((fault) => fault.name === name);
  if (name !== undefined && handshake === undefined && transmission === undefined) {
    throw new Error(`there is no fault called ${name}`);
  }
  return { handshake, transmission };
}

/** The requests that the fault of the transmission phase takes over. */
function hook(fault: TransmissionFault, options: ScriptedOptions): FaultHook {
  const command = commandNumber(fault.command);
  const from = options.hitFromBytes ?? 1n << 20n;
  const to = options.hitToBytes ?? 2n << 20n;
  let left = options.hits ?? Number.POSITIVE_INFINITY;
  const wants = (request: Request) => {
    const inRange = fault.command === 'flush' || (request.offset >= from && request.offset < to);
    if (request.command !== command || !inRange || left === 0) return false;
    left -= 1;
    return true;
  };
  return { wants, play: fault.play, takesPayload: fault.takesPayload ?? false };
}

const NO_REQUEST: Request = {
  flags: 0,
  command: 0,
  cookie: 0n,
  offset: 0n,
  lengthBytes: 0,
  payload: Buffer.alloc(0),
};

class Backend {
  readonly counters = newCounters();
  readonly clientErrors: string[] = [];
  readonly sockets = new Set<Socket>();
  readonly image: Buffer;
  readonly #disk: ForgetfulDisk | undefined;
  readonly #options: ScriptedOptions;
  readonly #faults: Faults;
  readonly #hook: FaultHook | undefined;

  constructor(options: ScriptedOptions) {
    this.#options = options;
    this.#faults = findFault(options.fault);
    const { transmission } = this.#faults;
    this.#hook = transmission && hook(transmission, options);
    this.#disk = options.disk === undefined ? undefined : new ForgetfulDisk(options.disk);
    const sizeBytes = this.#settings(0).sizeBytes;
    // Sizes that no memory holds only occur where the handshake ends before a request.
    this.image = this.#disk?.image ?? patternImage(sizeBytes > 1n << 31n ? 0n : sizeBytes);
  }

  #settings(connection: number): BackendSettings {
    const { handshake, transmission } = this.#faults;
    return {
      ...DEFAULT_SETTINGS,
      ...(transmission && { structuredReplies: transmission.replies === 'structured' }),
      ...handshake?.settings,
      ...(this.#disk && { sizeBytes: BigInt(this.#disk.image.length) }),
      ...this.#options.settings,
      ...this.#options.settingsOf?.(connection),
    };
  }

  async take(socket: Socket): Promise<void> {
    const connection = this.counters.connections;
    this.counters.connections += 1;
    this.sockets.add(socket);
    socket.on('close', () => this.sockets.delete(socket));
    socket.setNoDelay(true);
    const { maxClients = Infinity, connectionsMax = Infinity, pieceBytes } = this.#options;
    const peer = new Peer(socket, pieceBytes === undefined ? {} : { pieceBytes });
    try {
      const isWelcome = this.sockets.size <= maxClients && connection < connectionsMax;
      if (isWelcome) await this.#converse(peer, connection);
    } catch (error) {
      if (!(error instanceof PeerGone)) this.clientErrors.push(String(error));
    }
    peer.close();
  }

  /** A correct one. */
  readonly #playHandshake = (peer: Peer, settings: BackendSettings): Promise<Entered> =>
    playHandshake(peer, settings, async ({ option }) => {
      if (option === OPT.structuredReply) this.counters.structuredReplies += 1;
      return undefined;
    });

  async #converse(peer: Peer, number: number): Promise<void> {
    const { greetingDelayMs = 0, delayMs = 0 } = this.#options;
    if (greetingDelayMs > 0) await sleep(greetingDelayMs);
    const { handshake, transmission } = this.#faults;
    const settings = this.#settings(number);
    if (handshake !== undefined) this.counters.faults += 1;
    const play = handshake?.play ?? this.#playHandshake;
    const entered = await play(peer, settings);
    if (entered === undefined) return;
    const { image, counters } = this;
    const { structured } = entered;
    const disk = this.#disk;
    const connection = { peer, settings, structured, image, counters, delayMs, disk };
    if (transmission?.command === 'enter') {
      counters.faults += 1;
      await transmission.play(connection, NO_REQUEST);
    }
    await serve(connection, this.#hook);
  }
}

/** Starts to listen; `target` of the result is where. */
export async function startScriptedNbd(options: ScriptedOptions = {}): Promise<ScriptedNbd> {
  const backend = new Backend(options);
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    backend.take(socket).catch((error) => backend.clientErrors.push(String(error)));
  });
  const { socketPath, port = 0, host = '127.0.0.1' } = options;
  if (socketPath === undefined) server.listen(port, host);
  else server.listen(socketPath);
  await once(server, 'listening');
  const address = server.address();
  const bound = address !== null && typeof address === 'object' ? address.port : 0;
  const dropClients = () => {
    for (const socket of backend.sockets) socket.destroy();
  };
  return {
    port: bound,
    target:
      socketPath === undefined
        ? `${host}:${bound}`
        : `nbd+unix:///?socket=${encodeURI(socketPath)}`,
    counters: backend.counters,
    image: backend.image,
    clientErrors: backend.clientErrors,
    dropClients,
    close: async () => {
      server.close();
      dropClients();
      await once(server, 'close');
    },
  };
}
