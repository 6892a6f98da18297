/**
 * Owns: the only load of the addon, and the contract of what it exports (native/node implements
 * it).
 * Runs in: server processes and, for `info`, `doctor` and `cache`, the CLI; on the JS main thread.
 * Must not: decide anything; it converts nothing and retries nothing.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GatewayError } from '../protocols/errors.ts';
import type { MakeCacheFile } from './native-cache.ts';
import type { MakeStore, NativeStore } from './native-store.ts';
import type { MakeLog, UnflushedLog } from './unflushed-log.ts';

/** A numeric address to connect to; names are resolved before. */
export type NativeEndpoint =
  | { readonly kind: 'tcp'; readonly address: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'vsock'; readonly cid: number; readonly port: number };

/**
 * A socket that the addon made, connected and owns (O_CLOEXEC, SO_LINGER {1,0}; TCP: NODELAY,
 * keepalive 10/5/3, TCP_USER_TIMEOUT 30 s). Its promises reject with an Error whose `code` is an
 * errno name (`ECONNREFUSED`, `ETIMEDOUT`, `EPIPE`; end of stream is `ENODATA`). At most one send
 * and one recv at a time.
 */
export interface NativeTransport {
  send(bytes: Uint8Array, timeoutMs: number): Promise<void>;
  recv(lengthBytes: number, timeoutMs: number): Promise<Buffer>;
  /** Fails what is pending and closes the socket. After a hand-over to Queues it does nothing. */
  close(): void;
}

/** How a queue serves its device; fields are named as in adapter.h. */
export type AdapterSpec =
  | { readonly kind: 'null' }
  /** Every request ends with EIO: a device that is FATAL. */
  | { readonly kind: 'error' }
  | { readonly kind: 'memory'; readonly sizeBytes: bigint }
  | {
      readonly kind: 'file';
      readonly path: string;
      readonly readOnly: boolean;
      /** Ask for O_DIRECT; ignored where the file system refuses it. */
      readonly direct: boolean;
    }
  | ({
      readonly kind: 'nbd';
      readonly readOnly: boolean;
      /** How long requests wait for a new connection; 0: they fail at once; -1: for ever. */
      readonly reconnectDelayMs: number;
      /** What is left of the wait where there are no transports; 0 and -1 as above. */
      readonly holdDeadlineMs: number;
      /** A request older than this loses the connection; 0: none does. */
      readonly requestTimeoutMs: number;
      /** What becomes of acknowledged writes that the backend may have forgotten. */
      readonly unflushed: 'replay' | 'fail-flush' | 'trust';
      /** Of `replay`: made for as many queues, and for writes of maxIoBytes. */
      readonly log?: UnflushedLog | undefined;
      /** `fail-flush`: a predecessor's count of such writes was lost, so there may be some. */
      readonly inDoubt: boolean;
      /** Every write is made durable before it is acknowledged; nothing is ever unflushed then. */
      readonly durableWrites: boolean;
      /** false: a write in flight at a loss fails, and is never sent twice. */
      readonly resendWrites: boolean;
    } & NbdConnections)
  /** One queue. */
  | { readonly kind: 'store'; readonly store: NativeStore };

/** What Queues talk to their backend over, and what its handshake agreed on. */
export interface NbdConnections {
  /**
   * One connected transport past its handshake for each queue; owned by the queues from here on.
   * None in a spec: the device starts HOLDING, until `resume`.
   */
  readonly transports: readonly NativeTransport[];
  readonly structuredReplies: boolean;
  readonly canFlush: boolean;
  readonly canFua: boolean;
  readonly canTrim: boolean;
  readonly canWriteZeroes: boolean;
  /** Largest payload of one request on the wire, bytes. */
  readonly maximumBlockBytes: number;
  readonly minimumBlockBytes: number;
  /** Of these connections, 16 bits: part of every cookie, so that no late reply matches. */
  readonly epoch: number;
}

export interface QueuesSpec {
  /** The driver's id: /dev/ublkcN. */
  readonly devId: number;
  /** Path of the char device, /dev/ublkcN unless the node was made elsewhere. */
  readonly charDevicePath: string;
  readonly queueCount: number;
  readonly depth: number;
  readonly maxIoBytes: number;
  /**
   * Size of the device, bytes; requests beyond it are refused by an assertion (the kernel checks
   * them).
   */
  readonly sizeBytes: bigint;
  readonly readOnly: boolean;
  readonly dataPath: 'copy' | 'user-copy';
  /**
   * Keep the driver from looking for partitions where its flag for that is missing (queue threads
   * drop CAP_SYS_ADMIN).
   */
  readonly noPartitionScan: boolean;
  readonly adapter: AdapterSpec;
}

export interface QueuesEvent {
  /**
   * `backend-lost` and `protocol-violation`: this queue's connection is gone. `hold-expired`: its
   * requests fail from now on. `resumed`: they go to the new connection; `text` is the number of
   * requests that were sent again. `stopped`: every queue has ended and the char device is closed;
   * nothing comes after it.
   */
  readonly kind:
    | 'backend-lost'
    | 'protocol-violation'
    | 'hold-expired'
    | 'resumed'
    | 'warning'
    | 'stopped';
  readonly queue: number;
  readonly text: string;
}

/** Totals since start over all queues. */
export interface QueuesStats {
  readonly reads: bigint;
  readonly readBytes: bigint;
  readonly writes: bigint;
  readonly writeBytes: bigint;
  readonly flushes: bigint;
  readonly discards: bigint;
  readonly writeZeroes: bigint;
  readonly errors: bigint;
  readonly staleCompletions: bigint;
  readonly inFlight: number;
  /** Requests that were sent again on a new connection. */
  readonly replayedRequests: bigint;
  /** Payload in the log of unflushed writes. */
  readonly unflushedBytes: bigint;
}

/** The queue threads of one device. A failed invariant in them aborts the process. */
export interface Queues {
  /** Opens the char device, starts the threads; resolves when every tag has been given to FETCH. */
  start(): Promise<void>;
  /**
   * Cuts every connection; requests wait as `reconnectDelayMs` says. Resolves when no queue takes a
   * reply of the old connections any more, so that the unflushed log stands still.
   */
  hold(): Promise<void>;
  /** Every queue goes on with a new connection: first what was in flight, then what came since. */
  resume(connections: NbdConnections): void;
  /** "Fail all now": every request in flight and every later one ends with EIO. */
  failAll(): void;
  /**
   * What is in flight is finished, what comes is kept. True when nothing of this process is at the
   * backend any more, false when `unquiesce` or the end came before that.
   */
  quiesce(): Promise<boolean>;
  /** What was kept goes on. */
  unquiesce(): void;
  stats(): QueuesStats;
  /** How it stands with the backend: the worst of all queues. */
  state(): 'connected' | 'holding' | 'failing' | 'fatal';
}

export interface Addon {
  /** Resolves with a connected transport. */
  connectTransport(endpoint: NativeEndpoint, timeoutMs: number): Promise<NativeTransport>;
  /** `create`: EEXIST, ENOSPC. `open`: EBUSY while another process has it, EINVAL, EPERM. */
  UnflushedLog: { create: MakeLog; open: MakeLog };
  Store: MakeStore;
  CacheFile: MakeCacheFile;
  /**
   * So many bytes may come on a TCP connection before its sender hears from us, from now on; what
   * the kernel learns by itself comes late where the origin is far away. False: it was not taken.
   */
  widenReceiveWindow(fd: number, bytes: number): boolean;
  /** Makes a ring as a queue does and uses it once. Throws an Error with an errno name. */
  checkRing(): void;
  Queues: new (spec: QueuesSpec, onEvent: (event: QueuesEvent) => void) => Queues;
  /** Sends a datagram to $NOTIFY_SOCKET (sd_notify(3)); false where there is none. */
  notifySystemd(state: string): boolean;
}

const root = packageRoot(dirname(fileURLToPath(import.meta.url)));

/** The folder with package.json; dist/ and the sources are both below it. */
function packageRoot(start: string): string {
  let folder = start;
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new GatewayError('UNBD_INTERNAL', 'package.json is missing');
    folder = parent;
  }
  return folder;
}

/** `Release`, or `Debug` for the build with sanitizers (`UBLK_NBD_BUILD=Debug`). */
function buildFolder(): string {
  return join(root, 'build', process.env.UBLK_NBD_BUILD === 'Debug' ? 'Debug' : 'Release');
}

/** The helper executable: control commands and the launcher. */
export function helperPath(): string {
  return join(buildFolder(), 'ublk-nbd-helper');
}

/** The package's folder, for the files that it ships. */
export function packageFolder(): string {
  return root;
}

let addon: Addon | undefined;

/** Loads the addon once. Throws UNBD_INTERNAL with the build command when it is not there. */
export function loadAddon(): Addon {
  if (addon === undefined) {
    const path = join(buildFolder(), 'ublk_nbd.node');
    try {
      addon = createRequire(import.meta.url)(path) as Addon;
    } catch (cause) {
      throw new GatewayError('UNBD_INTERNAL', 'the native addon cannot be loaded', {
        hint: 'run: npm run build',
        cause,
      });
    }
  }
  return addon;
}
