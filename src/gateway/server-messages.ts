/**
 * Owns: what the controller and a server process say to each other over the controller's socket.
 * Runs in: both; types only.
 * Must not: hold a secret; the record in it is the registry's.
 */
import type { BackendInfo, ObjectIdentity } from '../protocols/adapter.ts';
import type { ConnectOptions, DataPath } from './messages.ts';
import type { QueuesStats } from './native.ts';
import type { DeviceRecord } from './registry.ts';

/** `details` of a server process's hello. */
export interface ServerHello {
  readonly token: string;
  /** Of the package that it was started from; one from before it was told has none. */
  readonly version?: string | undefined;
  /**
   * After `start`: the record that it serves, so that a controller whose registry lost it can
   * adopt.
   */
  readonly record?: DeviceRecord | undefined;
}

/** `details` of a controller's hello to a server process. */
export interface ControllerHello {
  /** Nobody else brings it back when it dies: no service manager, no `connect --foreground`. */
  readonly onDemand: boolean;
}

export interface OpenArgument {
  readonly options: ConnectOptions;
  readonly processors: number;
}

export interface OpenAnswer {
  readonly backend: BackendInfo;
  /** Connections that are open, one a queue; undefined where the target needs none. */
  readonly connections: number | undefined;
  readonly fingerprint?: string;
  readonly identity?: ObjectIdentity;
}

export interface StartArgument {
  readonly devId: number;
  readonly charDevicePath: string;
  readonly queueCount: number;
  readonly depth: number;
  readonly maxIoBytes: number;
  readonly sizeBytes: bigint;
  readonly readOnly: boolean;
  readonly dataPath: DataPath;
  readonly suppressPartitionScan: boolean;
  /** The device was served by another process, which is dead. */
  readonly recovery: boolean;
  /** Answer every request with an error; nothing was opened. */
  readonly failing: boolean;
  readonly record: DeviceRecord;
}

export interface SelfTestArgument {
  /** The device that it could come to serve; undefined: only what needs none is tried. */
  readonly record?: DeviceRecord | undefined;
}

export interface SelfTestAnswer {
  /** Why the backend was not looked at: it takes no second client. */
  readonly skipped?: string;
}

/** Requests of the controller. */
export interface ServerApi {
  /**
   * Dials, shakes hands, opens the further connections and checks that they are the same export.
   */
  open: { argument: OpenArgument; answer: OpenAnswer };
  /** Starts the queues; answers when every tag has been given to FETCH. */
  start: { argument: StartArgument; answer: null };
  /** That the JS thread runs; answered at any time. */
  ping: { argument: null; answer: null };
  /** Whether it could serve; to be asked of one that serves nothing. */
  selfTest: { argument: SelfTestArgument; answer: SelfTestAnswer };
  stats: { argument: null; answer: QueuesStats & Readonly<Record<string, bigint | number>> };
  /** Null where it is not known. */
  unflushed: { argument: null; answer: UnflushedWrites | null };
  /**
   * Every request in flight and every later one ends with EIO; nothing waits for the backend any
   * more.
   */
  failAll: { argument: null; answer: null };
  /**
   * Answers when nothing is in flight at the backend; what comes is kept for a successor. When none
   * comes soon, or with `unquiesce`, it goes on.
   */
  quiesce: { argument: null; answer: null };
  unquiesce: { argument: null; answer: null };
  /** Ends the server process, whatever it serves. */
  shutdown: { argument: null; answer: null };
}

/** What the backend acknowledged and no FLUSH has covered. */
export interface UnflushedWrites {
  readonly writes: number;
  /** Of payload. */
  readonly bytes: bigint;
}

/** Events of a server process: what a queue told, and how it stands with the backend. */
export const QUEUES_EVENT = 'queues';
export const BACKEND_EVENT = 'backend';

/** Event of the controller: it ends on purpose. */
export const GOODBYE_EVENT = 'goodbye';

export interface BackendEvent {
  readonly state: 'CONNECTED' | 'HOLDING' | 'FAILING' | 'FATAL';
  /** Its export is larger than the device; `follow`: which is to become as large. */
  readonly grown?: { readonly sizeBytes: bigint; readonly follow: boolean } | undefined;
  /** The state began with the loss of the connection, while so many requests were in flight. */
  readonly lost?: { readonly requests: number } | undefined;
  /** The cause, or of CONNECTED what was replayed; one line for people. */
  readonly text: string;
}
