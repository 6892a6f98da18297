/**
 * Owns: the contract of the log of unflushed writes as the addon exports it (native/node implements
 * it, native.ts loads it).
 * Runs in: server processes, on the JS main thread.
 * Must not: decide anything; a replay's failure is judged by the reconnect.
 */
import type { NativeTransport, NbdConnections } from './native.ts';

/** The content of a log, or of a replay: `bytes` are of payload. */
export interface LogTotals {
  readonly entries: number;
  readonly bytes: bigint;
}

/**
 * What the backend acknowledged and no FLUSH has covered, in a file that outlives this process.
 * Queues that it is given to keep it open, whatever `close` says.
 */
export interface UnflushedLog extends LogTotals {
  /**
   * How long a device that holds may go on so, kept for a successor. Set and read as ms from now:
   * 0 = no longer, -1 = for ever, undefined = the device does not hold.
   */
  holdDeadlineMs: number | undefined;
  /** A number for new connections, 16 bits, that no server process of the device had lately. */
  nextEpoch(): number;
  /**
   * Sends every entry again, in order, and awaits the replies; no queue may append meanwhile. The
   * transport stays the caller's, and its `close` ends the replay. Rejects with an Error whose
   * `code` is an errno name and whose `outcome` is 'lost', 'timed-out' (no progress for timeoutMs),
   * 'violation', 'refused' (an error for a write) or 'unfit' (the log reaches beyond sizeBytes).
   */
  replay(
    transport: NativeTransport,
    config: Omit<NbdConnections, 'transports' | 'canFlush' | 'canFua'> & { sizeBytes: bigint },
    timeoutMs: number,
  ): Promise<LogTotals>;
  /** Removes the file's name; the log works on. */
  unlink(): void;
  close(): void;
}

/** bytesPerQueue: a multiple of 64 KiB. Throws an Error with an errno name as `code`. */
export type MakeLog = (path: string, queues: number, bytesPerQueue: number) => UnflushedLog;
