/**
 * Owns: what the CLI and the controller say to each other: request names, their arguments and
 * answers.
 * Runs in: both; types and constants only.
 * Must not: hold a secret; the registry stores some of these records.
 */
import type { BackendInfo, Target } from '../protocols/adapter.ts';
import type { S3Options } from '../protocols/s3/source.ts';

/** Version of the messages, and the oldest that is understood: always the one before. */
export const RPC_VERSION = 1;
export const OLDEST_RPC_VERSION = RPC_VERSION - 1;

/** Where ConnectOptions names none. */
export const DEFAULT_RECONNECT_DELAY_MS = 30_000;

export type DataPath = 'copy' | 'user-copy';

export interface ConnectOptions {
  readonly target: Target;
  readonly readOnly: boolean;
  /** Queues wanted, 1 to 64; undefined = min(4, CPUs) where the backend allows it. */
  readonly queues?: number;
  /** Requests in flight per queue, 1 to 4096; default 64. */
  readonly depth?: number;
  /** Connections wanted; equals queues when given. */
  readonly connections?: number;
  /** Device number wanted: /dev/ublkbN. */
  readonly id?: number;
  /** Stable name: /dev/ublk-nbd/NAME. */
  readonly name?: string;
  readonly partitionScan: boolean;
  /** Logical block size wanted, bytes: 512, 1024, 2048 or 4096. */
  readonly blockSizeBytes?: number;
  readonly dataPath: DataPath;
  /** Limit of each dial and handshake, ms. */
  readonly handshakeTimeoutMs: number;
  /** How long a backend that cannot be reached is tried again at connect, ms; default 0. */
  readonly openTimeoutMs?: number;
  /** How long requests wait for a lost backend, ms; -1: for ever; 0: not at all; default 30 s. */
  readonly reconnectDelayMs?: number;
  /** A request that is older loses the connection, ms; undefined: none does. */
  readonly requestTimeoutMs?: number;
  /** What becomes of writes that a lost backend may have forgotten; default replay. */
  readonly unflushed?: 'replay' | 'fail-flush' | 'trust';
  /** fua: every write is durable before it is acknowledged; default flush. */
  readonly durability?: 'flush' | 'fua';
  /** Bound of the memory for what was read of an HTTP or S3 object, bytes; default 128 MiB. */
  readonly cacheMemoryBytes?: number;
  /**
   * What one request for such an object brings at most, but for joined ones, and what is evicted as
   * one, bytes: a power of two, 64 KiB to 16 MiB; default 1 MiB.
   */
  readonly fillUnitBytes?: number;
  /** Folder of the entries on disk of such objects, absolute; undefined: memory alone. */
  readonly cacheDirectory?: string;
  /** Bound of this object's entry there, bytes, 64 MiB to 2^53 - 1; default 10 GiB. */
  readonly cacheSizeBytes?: number;
  /** An origin that sends no ranges: all is downloaded into the cache before there is a device. */
  readonly spool?: boolean;
  /** full: all of the object is brought into the cache on disk in the background; default none. */
  readonly prefetch?: 'none' | 'full';
  /** Bound of what that fetches, bytes per second; default: none. */
  readonly prefetchBytesPerS?: number;
  /** PEM file of the certificates to trust, instead of those of the system. */
  readonly caFile?: string;
  /** Origin of an HTTP proxy that requests go through, without a credential. */
  readonly proxy?: string;
  /** File of `Name: value` lines that the proxy gets for each tunnel. */
  readonly proxyHeaderFile?: string;
  /** File of `Name: value` lines that each request to the origin carries. */
  readonly headerFile?: string;
  /** How an object in S3 is found, and whose credentials ask for it; names and paths. */
  readonly s3?: S3Options;
  /** When the server process dies; undefined = recover, wherever its content outlives it. */
  readonly onCrash?: 'recover' | 'fail';
  /** The device follows an export that has grown by the time of a reconnect. */
  readonly resize?: boolean;
  /** False: a write that may have been executed is never sent again; it fails instead. */
  readonly resendWrites?: boolean;
  /**
   * Each connection asks the NBD backend for structured replies; default: it does not. Missing in
   * the records of versions that always asked: their devices have simple replies from the next
   * connection on, which does no harm, as no request is answered partly by one and partly by
   * another.
   */
  readonly structuredReplies?: boolean;
}

export type DeviceState =
  | 'CONNECTING'
  | 'CONNECTED'
  | 'RECOVERING'
  | 'HOLDING'
  | 'FAILING'
  | 'FATAL'
  | 'STOPPING'
  | 'DEAD';

/** One device as `list` shows it. */
export interface DeviceView {
  readonly id: number;
  /** /dev/ublkbN */
  readonly path: string;
  readonly name?: string;
  readonly target: string;
  readonly state: DeviceState;
  readonly sizeBytes: bigint;
  readonly readOnly: boolean;
  readonly queues: number;
  readonly depth: number;
  readonly logicalBlockBytes: number;
  readonly serverPid: number;
  /** Of the package that the server process was started from. */
  readonly serverVersion?: string;
  readonly connectedAtMs: number;
  /** Why it is not CONNECTED, one line. */
  readonly reason?: string;
  /** With `list -v` only. */
  readonly details?: {
    readonly backend: BackendInfo;
    readonly dataPath: DataPath;
    readonly maxIoBytes: number;
    readonly counters: Readonly<Record<string, bigint | number>>;
  };
}

export type DeviceEventKind =
  | 'connected'
  | 'adopted'
  | 'lost'
  | 'holding'
  | 'replayed'
  | 'grown'
  | 'resized'
  | 'failing'
  | 'recovering'
  | 'reissued'
  | 'upgraded'
  | 'fatal'
  | 'dead'
  | 'disconnected';

/** What happened to a device; also the controller's event of an `events` request. */
export interface DeviceEvent {
  readonly atMs: number;
  /** N of /dev/ublkbN. */
  readonly device: number;
  readonly kind: DeviceEventKind;
  /** One line for people. */
  readonly text: string;
  /** Events before this one that the subscriber was too slow for. */
  readonly missed?: number;
}

/** Name of that event on the wire. */
export const DEVICE_EVENT = 'device';

/** A controller that runs. */
export interface ControllerView {
  readonly version: string;
  readonly pid: number;
  /** It is the process of `daemon --foreground`, which somebody else starts and ends. */
  readonly isForeground?: boolean;
}

/** What an upgrade of a device did. */
export interface DeviceUpgrade {
  readonly before: DeviceView;
  readonly after: DeviceView;
  /** From the end of the old server process until the new one served with its backend. */
  readonly pauseMs: number;
  /** The same for people, without the device. */
  readonly text: string;
}

/** Request name to argument and answer. */
export interface ControllerApi {
  ping: { argument: null; answer: ControllerView };
  connect: { argument: ConnectOptions; answer: DeviceView };
  /** `device` is N, ublkbN, /dev/ublkbN or a name. */
  disconnect: {
    argument: { device: string; force: boolean; drainTimeoutMs?: number | undefined };
    answer: { id: number };
  };
  /** Waits for a recovery that goes on, begins one where the device is FATAL. */
  recover: { argument: { device: string }; answer: DeviceView };
  /** Gives the device to a server process of the controller's version. */
  upgrade: { argument: { device: string }; answer: DeviceUpgrade };
  /** A DeviceEvent for each event from here on, until the asker cancels. */
  events: { argument: null; answer: null };
  list: { argument: { verbose: boolean }; answer: readonly DeviceView[] };
  /**
   * Ends the controller once nothing is under way any more; refuses (UNBD_DEVICE_BUSY) while
   * devices are there, unless `keepDevices`.
   */
  shutdown: { argument: { keepDevices: boolean }; answer: null };
}
