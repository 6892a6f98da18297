/**
 * Owns: what a device looks like to the driver: from what the backend can do and the user asked for
 * to the flags of ADD_DEV and the parameters of SET_PARAMS.
 * Runs in: the controller, and for the number of connections in the server process; pure.
 * Must not: promise what the backend cannot do, or round a size.
 */
import type { BackendInfo, Target } from '../protocols/adapter.ts';
import { GatewayError } from '../protocols/errors.ts';
import { checkGeometry } from '../protocols/geometry.ts';
import { isObjectTarget } from '../protocols/object-target.ts';
import type { ConnectOptions } from './messages.ts';
import { FEATURE_UPDATE_SIZE, hasModernRecovery, recoveryFlags } from './recovery-policy.ts';
import type { DeviceRecord } from './registry.ts';

/** Flags of ADD_DEV, by bit (linux/ublk_cmd.h). */
export const FEATURE_USER_COPY = 1n << 7n;
export const FEATURE_NO_AUTO_PART_SCAN = 1n << 18n;

/** Attributes of the basic parameters. */
export const ATTR_READ_ONLY = 1;
export const ATTR_ROTATIONAL = 2;
export const ATTR_VOLATILE_CACHE = 4;
export const ATTR_FUA = 8;

const DEFAULT_QUEUES = 4;
const DEFAULT_DEPTH = 64;
const SECTOR_BYTES = 512;
const PAGE_BYTES = 4096;
const MAXIMUM_IO_BYTES = 1024 * 1024;
/** Below it a request costs more than its bytes. */
const MINIMUM_IO_BYTES = 16 * 1024;
/** All tag buffers of a device together; they are locked memory. */
const MAXIMUM_BUFFER_BYTES = 64 * 1024 * 1024;
/** Twice io_opt becomes the readahead, so that an object store's 32 MiB would drown small reads. */
const MAXIMUM_OPTIMAL_IO_BYTES = 1024 * 1024;
/** No payload travels, so that only the time of one request bounds it. */
const MAXIMUM_DISCARD_BYTES = 1024 * 1024 * 1024;
/** A backend without holes writes them all, within the deadline of one request. */
const MAXIMUM_WRITE_ZEROES_BYTES = 32 * 1024 * 1024;

/** struct ublk_params in the driver's words. */
export interface DeviceParams {
  readonly attrs: number;
  readonly logicalBlockShift: number;
  readonly physicalBlockShift: number;
  readonly ioOptShift: number;
  readonly ioMinShift: number;
  readonly maxSectors: number;
  readonly devSectors: bigint;
  /** Undefined = the parameter type is left out. */
  readonly discard:
    | {
        readonly granularityBytes: number;
        readonly maxDiscardSectors: number;
        readonly maxWriteZeroesSectors: number;
      }
    | undefined;
}

export interface DevicePlan {
  /** What ADD_DEV is asked for; the driver may grant less. */
  readonly flags: bigint;
  readonly queueCount: number;
  readonly depth: number;
  readonly maxIoBytes: number;
  readonly readOnly: boolean;
  readonly sizeBytes: bigint;
  readonly logicalBlockBytes: number;
  /**
   * The driver cannot leave the partition scan out of START, so that the queue threads have to
   * suppress it.
   */
  readonly suppressPartitionScan: boolean;
  /** The scan that was suppressed is wanted, and therefore ours to do once the disk is there. */
  readonly scanPartitions: boolean;
  /** The kernel notices the death of a server process late unless its requests time out soon. */
  readonly needsShortTimeout: boolean;
  readonly params: DeviceParams;
}

export interface PlanRequest {
  readonly options: ConnectOptions;
  readonly backend: BackendInfo;
  /** Connections that the server process has opened; undefined where the target needs none. */
  readonly connections: number | undefined;
  readonly features: bigint;
  readonly processors: number;
}

/**
 * How many queues, and for a wire backend connections, a device is to have; and whether fewer will
 * do.
 */
export function wantedQueues(
  options: ConnectOptions,
  backend: BackendInfo,
  processors: number,
): { readonly count: number; readonly fewerWillDo: boolean } {
  const asked = options.queues ?? options.connections;
  if (isObjectTarget(options.target)) {
    // The chunks of a store belong to one thread, which needs no lock then.
    if (asked === undefined || asked === 1) return { count: 1, fewerWillDo: false };
    throw new GatewayError('UNBD_USAGE', 'an HTTP or S3 image has one queue', {
      hint: 'leave out --queues and --connections',
    });
  }
  const several = !isWire(options.target) || mayShare(options, backend);
  if (asked === undefined) {
    return { count: several ? Math.min(DEFAULT_QUEUES, processors) : 1, fewerWillDo: true };
  }
  if (asked > 1 && !several) {
    throw new GatewayError('UNBD_USAGE', `the backend does not allow ${asked} connections`, {
      hint: 'use --queues 1, or --read-only',
    });
  }
  return { count: asked, fewerWillDo: false };
}

/** Only wire backends tie a queue to a connection. */
function isWire(target: Target): boolean {
  return target.kind === 'nbd';
}

/** Several connections of one client see the same bytes, or nobody here writes any. */
function mayShare(options: ConnectOptions, backend: BackendInfo): boolean {
  return backend.canMultiConn || backend.readOnly || options.readOnly;
}

/** Whether a write that was acknowledged may need a FLUSH yet. */
export function hasVolatileWrites({ shape, backend, options }: DeviceRecord): boolean {
  const isWritten = shape?.readOnly !== true && options.durability !== 'fua';
  return isWritten && backend?.canFlush !== false;
}

/** Throws UNBD_EXPORT_UNUSABLE or UNBD_USAGE with the reason when no device can be made of it. */
export function planDevice(request: PlanRequest): DevicePlan {
  const { options, backend, features, processors } = request;
  const logicalBlockBytes = checkGeometry(backend, options.blockSizeBytes);
  const wanted = wantedQueues(options, backend, processors).count;
  const queueCount = request.connections ?? wanted;
  const depth = options.depth ?? DEFAULT_DEPTH;
  const maxIoBytes = largestIo(queueCount, depth);
  const readOnly = backend.readOnly || options.readOnly;
  const offersNoScan = (features & FEATURE_NO_AUTO_PART_SCAN) !== 0n;
  const wantsUserCopy = options.dataPath === 'user-copy';
  if (wantsUserCopy && (features & FEATURE_USER_COPY) === 0n) {
    throw new GatewayError('UNBD_USAGE', 'this kernel does not offer --data-path user-copy', {
      hint: 'use --data-path copy',
    });
  }
  if (options.resize === true && isObjectTarget(options.target)) {
    throw new GatewayError('UNBD_USAGE', 'an HTTP or S3 image that has grown is another one', {
      hint: 'leave out --resize',
    });
  }
  if (options.resize === true && (features & FEATURE_UPDATE_SIZE) === 0n) {
    throw new GatewayError('UNBD_USAGE', 'this kernel cannot resize a device: no UPDATE_SIZE', {
      hint: 'boot Linux 6.16 or newer, or leave out --resize',
    });
  }
  return {
    flags:
      recoveryFlags(options, features) |
      (wantsUserCopy ? FEATURE_USER_COPY : 0n) |
      (!options.partitionScan && offersNoScan ? FEATURE_NO_AUTO_PART_SCAN : 0n),
    queueCount,
    depth,
    maxIoBytes,
    readOnly,
    sizeBytes: backend.sizeBytes,
    logicalBlockBytes,
    // Such a kernel reads within START and holds a mutex meanwhile that STOP and a recovery need: a
    // server process that died then would leave all three waiting for each other.
    suppressPartitionScan: !offersNoScan,
    scanPartitions: options.partitionScan && !offersNoScan,
    needsShortTimeout: !hasModernRecovery(features),
    params: paramsFor(backend, readOnly, logicalBlockBytes, maxIoBytes),
  };
}

/** The parameters once ADD_DEV has said how large a request may be. */
function paramsFor(
  backend: BackendInfo,
  readOnly: boolean,
  logicalBlockBytes: number,
  maxIoBytes: number,
): DeviceParams {
  const preferredBytes = Math.max(powerOfTwoBelow(backend.preferredBlockBytes), logicalBlockBytes);
  const physicalBytes = Math.min(preferredBytes, PAGE_BYTES);
  const optimalBytes = Math.min(preferredBytes, MAXIMUM_OPTIMAL_IO_BYTES);
  const cached = backend.canFlush && !readOnly;
  return {
    attrs:
      (readOnly ? ATTR_READ_ONLY : 0) |
      (backend.rotational ? ATTR_ROTATIONAL : 0) |
      (cached ? ATTR_VOLATILE_CACHE : 0) |
      // Without it the block layer itself follows such a write with a FLUSH.
      (cached && backend.canFua ? ATTR_FUA : 0),
    logicalBlockShift: Math.log2(logicalBlockBytes),
    physicalBlockShift: Math.log2(physicalBytes),
    ioOptShift: Math.log2(optimalBytes),
    ioMinShift: Math.log2(physicalBytes),
    maxSectors: maxIoBytes / SECTOR_BYTES,
    devSectors: backend.sizeBytes / BigInt(SECTOR_BYTES),
    discard: readOnly ? undefined : discardFor(backend, logicalBlockBytes),
  };
}

function discardFor(backend: BackendInfo, logicalBlockBytes: number): DeviceParams['discard'] {
  if (!backend.canTrim && !backend.canWriteZeroes) return undefined;
  return {
    granularityBytes: logicalBlockBytes,
    maxDiscardSectors: backend.canTrim ? MAXIMUM_DISCARD_BYTES / SECTOR_BYTES : 0,
    maxWriteZeroesSectors: backend.canWriteZeroes ? MAXIMUM_WRITE_ZEROES_BYTES / SECTOR_BYTES : 0,
  };
}

/** The largest request, a power of two, for which all tag buffers stay within their bound. */
function largestIo(queueCount: number, depth: number): number {
  const fitting = powerOfTwoBelow(Math.floor(MAXIMUM_BUFFER_BYTES / (queueCount * depth)));
  if (fitting < MINIMUM_IO_BYTES) {
    const most = MAXIMUM_BUFFER_BYTES / MINIMUM_IO_BYTES;
    throw new GatewayError('UNBD_USAGE', `${queueCount} queues of ${depth} requests are too many`, {
      hint: `take at most ${most} in all, or less`,
    });
  }
  return Math.min(fitting, MAXIMUM_IO_BYTES);
}

/** The largest power of two that is not above `value` (1 and up). */
function powerOfTwoBelow(value: number): number {
  return 2 ** Math.floor(Math.log2(value));
}
