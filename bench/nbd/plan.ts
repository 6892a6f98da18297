/**
 * Owns: what is measured: the devices, the workloads, their order, and the goals.
 * Runs in: the bench's process on the host.
 * Must not: know how a measurement is made; bench/nbd/guest does.
 */
import { repeated } from '../repetitions.ts';

/**
 * `nbd.ko` is the kernel's client, with nbd-client; the others are devices of ublk-nbd.
 * `nbd-structured` asks for structured replies, `nbd-trust` keeps no log of unflushed writes,
 * `nbd-mortal` neither that nor the flags for recovery.
 */
export type DeviceName =
  | 'nbd.ko'
  | 'nbd'
  | 'nbd-structured'
  | 'nbd-trust'
  | 'nbd-mortal'
  | 'file'
  | 'null';

export const DEVICES: readonly DeviceName[] = [
  'nbd.ko',
  'nbd',
  'nbd-structured',
  'nbd-trust',
  'nbd-mortal',
  'file',
  'null',
];

export interface Workload {
  readonly name: string;
  readonly rw: 'randread' | 'randwrite' | 'read' | 'write';
  readonly blockKib: number;
  readonly depth: number;
  readonly totalKib: number;
  /** The most that ours may cost, as a multiple of nbd.ko's instructions per I/O. */
  readonly goal?: number;
}

const MIB = 1024;

export const WORKLOADS: readonly Workload[] = [
  {
    name: 'randread-4k-qd1',
    rw: 'randread',
    blockKib: 4,
    depth: 1,
    totalKib: 32 * MIB,
    goal: 1.15,
  },
  { name: 'randread-4k-qd32', rw: 'randread', blockKib: 4, depth: 32, totalKib: 32 * MIB, goal: 1 },
  {
    name: 'randwrite-4k-qd32',
    rw: 'randwrite',
    blockKib: 4,
    depth: 32,
    totalKib: 32 * MIB,
    goal: 1,
  },
  { name: 'read-128k-qd8', rw: 'read', blockKib: 128, depth: 8, totalKib: 128 * MIB },
  { name: 'write-128k-qd8', rw: 'write', blockKib: 128, depth: 8, totalKib: 128 * MIB },
  { name: 'read-1m-qd4', rw: 'read', blockKib: 1024, depth: 4, totalKib: 256 * MIB },
];

/** One run of one workload on one device. */
export interface Run {
  readonly name: string;
  readonly device: DeviceName;
  readonly workload: Workload;
}

/** In the order of `repeated`. */
export function planRuns(
  devices: readonly DeviceName[],
  workloads: readonly Workload[],
  repetitions: number,
): Run[] {
  const once = (repetition: number): Run[] =>
    workloads.flatMap((workload) =>
      devices.map((device) => ({
        name: `${repetition}-${workload.name}-${device}`,
        device,
        workload,
      })),
    );
  return repeated(once, repetitions);
}

/** The plan as bench/nbd/guest reads it. */
export function planText(runs: readonly Run[]): string {
  return runs
    .map(({ name, device, workload }) => {
      const { rw, blockKib, depth, totalKib } = workload;
      return `${name} ${device} ${rw} ${blockKib} ${depth} ${totalKib}\n`;
    })
    .join('');
}
