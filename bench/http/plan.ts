/**
 * Owns: what is measured of HTTP: the clients, the workloads, their order, and the goals.
 * Runs in: the bench's process on the host.
 * Must not: know how a measurement is made; bench/http/guest does.
 */
import { repeated } from '../repetitions.ts';

/**
 * `http` is our device with its cache in memory, `http-disk` with its cache on disk beneath little
 * memory, `file` our device on a file. `nbdkit-curl` is nbdkit's curl plugin behind nbd-client, and
 * `curl` no device at all, but what the origin and the network give.
 */
export type ClientName = 'http' | 'http-disk' | 'file' | 'nbdkit-curl' | 'curl';

export const CLIENTS: readonly ClientName[] = ['http', 'http-disk', 'file', 'nbdkit-curl', 'curl'];

/** Of the image; our memory has half of that, so that a cold read also evicts. */
export const IMAGE_MIB = 256;

export type Kind = 'cold' | 'warm' | 'random';

export interface Workload {
  readonly name: string;
  readonly kind: Kind;
  /** Round trip time to the origin. */
  readonly delayMs: number;
  /** Of the link to it, Mbit/s; 0: none but what the processor can do. */
  readonly limitMbit: number;
  readonly clients: readonly ClientName[];
}

const COLD: readonly ClientName[] = ['http', 'nbdkit-curl', 'curl'];

function cold(delayMs: number, limitMbit: number): Workload {
  const name = `cold-${delayMs}ms${limitMbit === 0 ? '' : `-${limitMbit / 1000}g`}`;
  return { name, kind: 'cold', delayMs, limitMbit, clients: COLD };
}

const NEAR = { delayMs: 0, limitMbit: 0 };

export const WORKLOADS: readonly Workload[] = [
  cold(0, 0),
  cold(10, 0),
  cold(50, 0),
  cold(10, 1000),
  cold(50, 1000),
  {
    name: 'warm-4k-qd32',
    kind: 'warm',
    ...NEAR,
    clients: ['http', 'http-disk', 'file', 'nbdkit-curl'],
  },
  { name: 'random-4k-qd32', kind: 'random', ...NEAR, clients: ['http', 'nbdkit-curl'] },
];

/** A figure of one client against that of another, or against 1 where there is no other. */
export interface Goal {
  readonly workload: string;
  readonly client: ClientName;
  readonly other?: ClientName;
  readonly atLeast?: number;
  readonly atMost?: number;
}

export const GOALS: readonly Goal[] = [
  { workload: 'cold-10ms', client: 'http', other: 'curl', atLeast: 0.9 },
  { workload: 'cold-50ms', client: 'http', other: 'curl', atLeast: 0.9 },
  { workload: 'cold-50ms', client: 'http', other: 'nbdkit-curl', atLeast: 2 },
  { workload: 'cold-10ms-1g', client: 'http', other: 'curl', atLeast: 0.9 },
  { workload: 'cold-50ms-1g', client: 'http', other: 'curl', atLeast: 0.9 },
  { workload: 'cold-50ms-1g', client: 'http', other: 'nbdkit-curl', atLeast: 2 },
  { workload: 'warm-4k-qd32', client: 'http', other: 'file', atMost: 1.1 },
  { workload: 'warm-4k-qd32', client: 'http-disk', other: 'file', atMost: 1.1 },
  { workload: 'random-4k-qd32', client: 'http', atMost: 4 },
];

/** One run of one workload by one client. */
export interface Run {
  readonly name: string;
  readonly client: ClientName;
  readonly workload: Workload;
}

/** In the order of `repeated`. */
export function planRuns(
  clients: readonly ClientName[],
  workloads: readonly Workload[],
  repetitions: number,
): Run[] {
  const once = (repetition: number): Run[] =>
    workloads.flatMap((workload) =>
      workload.clients
        .filter((client) => clients.includes(client))
        .map((client) => ({
          name: `${repetition}-${workload.name}-${client}`,
          client,
          workload,
        })),
    );
  return repeated(once, repetitions);
}

/** The plan as bench/http/guest reads it. */
export function planText(runs: readonly Run[]): string {
  return runs
    .map(({ name, client, workload: { kind, delayMs, limitMbit } }) => {
      return `${name} ${client} ${kind} ${delayMs} ${limitMbit}\n`;
    })
    .join('');
}
