/**
 * Owns: which device keeps its unflushed writes, and the file that they are kept in.
 * Runs in: the server process, on the JS main thread.
 * Must not: end a device whose log cannot be made; it does without.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { errnoName } from './dial.ts';
import { log } from './log.ts';
import type { ConnectOptions } from './messages.ts';
import type { Addon } from './native.ts';
import { hasVolatileWrites } from './params.ts';
import { unflushedLogPath } from './run-dir.ts';
import type { StartArgument } from './server-messages.ts';
import type { UnflushedLog } from './unflushed-log.ts';

/** Payload of a device's log over all queues: the bound of what a crashed backend can cost. */
const LOG_BYTES = 64 << 20;
const LOG_UNIT_BYTES = 64 << 10;

/** The log would send acknowledged writes a second time, which was not wanted. */
export function unflushedPolicy({ unflushed, resendWrites }: ConnectOptions) {
  return unflushed ?? (resendWrites === false ? 'fail-flush' : 'replay');
}

interface Opened {
  /** Undefined where none is wanted, or can be. */
  readonly opened: UnflushedLog | undefined;
  /** There was one, of a predecessor. */
  readonly isLost: boolean;
}

/** Of a new device a new log; of a successor that of its predecessor. */
export function openLog(addon: Addon, device: StartArgument): Opened {
  const { devId, queueCount, maxIoBytes, recovery, record } = device;
  const isWanted = unflushedPolicy(record.options) === 'replay';
  if (!isWanted || !hasVolatileWrites(record)) return { opened: undefined, isLost: false };
  const path = unflushedLogPath(devId);
  // However many queues there are, each must have room for its largest request.
  const share = Math.max(LOG_BYTES / queueCount, maxIoBytes + LOG_UNIT_BYTES);
  const bytesPerQueue = Math.ceil(share / LOG_UNIT_BYTES) * LOG_UNIT_BYTES;
  try {
    const { UnflushedLog: logs } = addon;
    if (recovery) return { opened: logs.open(path, queueCount, bytesPerQueue), isLost: false };
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    rmSync(path, { force: true });
    return { opened: logs.create(path, queueCount, bytesPerQueue), isLost: false };
  } catch (error) {
    const what = recovery ? 'is lost' : 'cannot be made';
    log('error', devId, `the log of unflushed writes ${what}: ${errnoName(error)}`);
    return { opened: undefined, isLost: recovery };
  }
}
