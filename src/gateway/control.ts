/**
 * Owns: the driver's control commands: the helper is run for each, with a deadline, and its answer
 * understood.
 * Runs in: the controller, `connect --foreground`, and for `doctor` the CLI.
 * Must not: issue a command itself: one that waits in the driver cannot be killed, a helper can be
 * left behind.
 */
import { existsSync } from 'node:fs';
import { controlError } from './control-error.ts';
import { type HelperAnswer, runHelper } from './control-helper.ts';
import type { DeviceParams } from './params.ts';

export interface AddRequest {
  readonly id: number;
  readonly flags: bigint;
  readonly queueCount: number;
  readonly depth: number;
  readonly maxIoBytes: number;
  readonly params: DeviceParams;
}

/** What the driver granted; at most what was asked for. */
export interface AddedDevice {
  readonly flags: bigint;
  readonly queueCount: number;
  readonly depth: number;
  readonly maxIoBytes: number;
}

export interface DriverInfo {
  /** DEAD, LIVE, QUIESCED or FAIL_IO. DEAD is also what was added and not started. */
  readonly state: string;
  /** The server process as the driver knows it; <= 0 for none. */
  readonly serverPid: number;
}

/** Whether requests can come: it is there, was started, and is not stopped. */
export function isStarted<T extends { readonly state: string }>(info: T | undefined): info is T {
  return info !== undefined && info.state !== 'DEAD';
}

/** What became of a disk that was to be stopped; `unflushed`: it was written all the same. */
export type FlushResult = 'stopped' | 'unwritten' | 'unflushed';

/** Every method rejects with a GatewayError, within its deadline. */
export interface Control {
  features(): Promise<bigint>;
  /** ADD_DEV and SET_PARAMS; nothing is left behind when it rejects. `exists`: the id is taken. */
  add(request: AddRequest): Promise<AddedDevice | 'exists'>;
  start(id: number, serverPid: number): Promise<void>;
  /** START_USER_RECOVERY, once the driver has let go of the dead server process. */
  recoverStart(id: number): Promise<void>;
  /** END_USER_RECOVERY; waits until every tag is fetched, or `signal`. */
  recoverEnd(id: number, serverPid: number, signal: AbortSignal): Promise<void>;
  /**
   * Sets the queue of a started device up, as far as the kernel lets us within 5 s; for
   * `shortTimeout` see DevicePlan.needsShortTimeout. No I/O scheduler: the kernel gives mq-deadline
   * to a disk of one queue, which costs instructions on every request and orders them for a head
   * that a remote image does not have.
   */
  tune(id: number, shortTimeout: boolean): Promise<void>;
  /** UPDATE_SIZE, for a device that has that flag. */
  updateSize(id: number, sizeBytes: bigint): Promise<void>;
  stop(id: number): Promise<void>;
  /**
   * Writes back, flushes, and stops if that succeeded. UNBD_DEVICE_BUSY while the disk is in use.
   * Waits for the backend until `signal`; the helper may then stay behind until the backend, or the
   * end of its requests, lets it go.
   */
  disconnect(id: number, signal: AbortSignal): Promise<FlushResult>;
  /** Flushes for so long, and stops whoever uses the disk. */
  forceDisconnect(id: number, flushTimeoutMs: number): Promise<void>;
  /** Waits until nobody holds the device. That there is none is success for both. */
  del(id: number): Promise<void>;
  delAsync(id: number): Promise<void>;
  /** Undefined when the driver has no such device. */
  info(id: number): Promise<DriverInfo | undefined>;
}

const SECTOR_BYTES = 512n;
const QUICK_TIMEOUT_MS = 5_000;
/** Some kernels fail to complete ADD_DEV at all (ublk_init_queues in 6.17). */
const ADD_TIMEOUT_MS = 30_000;
/** Much more than it takes: nothing is read within it, see DevicePlan.suppressPartitionScan. */
const START_TIMEOUT_MS = 60_000;
/** A device whose every tag is in flight is let go after 31 s where its timeout is the default. */
const RELEASE_PATIENCE_MS = 40_000;
const RECOVER_END_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 60_000;
/** On Linux 6.12 a death with every tag in flight then shows after 2 s; by default after 31. */
const IO_TIMEOUT_MS = 1_000;
const DELETE_TIMEOUT_MS = 15_000;

export const driverControl: Control = {
  async features() {
    const answer = await command('features', {}, QUICK_TIMEOUT_MS);
    return BigInt(String(answer.features));
  },
  async add(request) {
    const answer = await runHelper('add', addValues(request), ADD_TIMEOUT_MS);
    if (answer.errno === 'EEXIST') return 'exists';
    const granted = checked('add', answer);
    return {
      flags: BigInt(String(granted.flags)),
      queueCount: Number(granted.queues),
      depth: Number(granted.depth),
      maxIoBytes: Number(granted.max_io_bytes),
    };
  },
  async start(id, serverPid) {
    await command('start', { id, pid: serverPid }, START_TIMEOUT_MS);
  },
  async recoverStart(id) {
    const values = { id, patience_ms: RELEASE_PATIENCE_MS };
    await command('recover_start', values, RELEASE_PATIENCE_MS + QUICK_TIMEOUT_MS);
  },
  async recoverEnd(id, serverPid, signal) {
    await command('recover_end', { id, pid: serverPid }, RECOVER_END_TIMEOUT_MS, signal);
  },
  async tune(id, shortTimeout) {
    const values = { id, ...(shortTimeout ? { io_timeout_ms: IO_TIMEOUT_MS } : {}) };
    // Where /sys is read-only the kernel's choices stay: a recovery then takes its half minute.
    await runHelper('tune', values, QUICK_TIMEOUT_MS).catch(() => undefined);
  },
  async updateSize(id, sizeBytes) {
    const values = { id, dev_sectors: String(sizeBytes / SECTOR_BYTES) };
    await command('update_size', values, QUICK_TIMEOUT_MS);
  },
  async stop(id) {
    await commandOnPresent('stop', { id }, STOP_TIMEOUT_MS);
  },
  async disconnect(id, signal) {
    const answer = await runHelper('disconnect', { id }, undefined, signal);
    if (answer.step === 'write_back') return 'unwritten';
    if (answer.step === 'fsync') return 'unflushed';
    checked('disconnect', answer);
    return 'stopped';
  },
  async forceDisconnect(id, flushTimeoutMs) {
    const values = { id, force: 1, flush_timeout_ms: flushTimeoutMs };
    await command('disconnect', values, flushTimeoutMs + STOP_TIMEOUT_MS);
  },
  async del(id) {
    await commandOnPresent('del', { id }, DELETE_TIMEOUT_MS);
  },
  async delAsync(id) {
    await commandOnPresent('del_async', { id }, QUICK_TIMEOUT_MS);
  },
  async info(id) {
    const answer = await commandOnPresent('info', { id }, QUICK_TIMEOUT_MS);
    if (answer === undefined) return undefined;
    return { state: String(answer.state), serverPid: Number(answer.pid) };
  },
};

/** The helper's names for what `add` sets. */
export function addValues(request: AddRequest): Readonly<Record<string, string | number>> {
  const { id, flags, queueCount, depth, maxIoBytes, params } = request;
  const { discard } = params;
  return {
    id,
    flags: `0x${flags.toString(16)}`,
    queues: queueCount,
    depth,
    max_io_bytes: maxIoBytes,
    attrs: params.attrs,
    logical_bs_shift: params.logicalBlockShift,
    physical_bs_shift: params.physicalBlockShift,
    io_opt_shift: params.ioOptShift,
    io_min_shift: params.ioMinShift,
    max_sectors: params.maxSectors,
    dev_sectors: params.devSectors.toString(),
    ...(discard === undefined
      ? {}
      : {
          discard_granularity: discard.granularityBytes,
          max_discard_sectors: discard.maxDiscardSectors,
          max_write_zeroes_sectors: discard.maxWriteZeroesSectors,
        }),
  };
}

type Values = Readonly<Record<string, string | number>>;

async function command(
  name: string,
  values: Values,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<HelperAnswer> {
  return checked(name, await runHelper(name, values, timeoutMs, signal));
}

/** For a command that a device which is gone does not need any more. */
async function commandOnPresent(
  name: string,
  values: Values,
  timeoutMs: number,
): Promise<HelperAnswer | undefined> {
  const answer = await runHelper(name, values, timeoutMs);
  return answer.errno === 'ENODEV' ? undefined : checked(name, answer);
}

function checked(name: string, answer: HelperAnswer): HelperAnswer {
  if (answer.ok === true) return answer;
  throw controlError(name, answer, existsSync('/sys/class/misc/ublk-control'));
}
