/**
 * Owns: the text that the bench of HTTP prints: what was measured, and the goals.
 * Runs in: the bench's process on the host.
 * Must not: measure or read files.
 */
import { layout, meanOf, spreadText, thousands } from '../table.ts';
import type { ClientName, Goal, Workload } from './plan.ts';
import type { Cold, Random, Warm } from './results.ts';

/** The repetitions of one workload by one client, as one row. */
export interface Row {
  readonly workload: Workload;
  readonly client: ClientName;
  readonly cold: readonly Cold[];
  readonly warm: readonly Warm[];
  readonly random: readonly Random[];
}

const GIB = 1024 ** 3;

/** Instructions per byte as seconds per GiB of a processor that runs 1e9 of them a second. */
const perGib = (nsPerByte: number): string => ((nsPerByte * GIB) / 1e9).toFixed(2);

/** Sequential reads of what is not there yet; empty where nothing of the kind was measured. */
export function coldTable(rows: readonly Row[]): string {
  const head = ['workload', 'client', 'MB/s', 'spread', 'first 4 KiB', 'client s/GiB'];
  head.push('nginx s/GiB', 'requests', 'connections');
  const lines = rows.flatMap(({ workload, client, cold }) => {
    if (cold.length === 0) return [];
    const mean = (pick: (one: Cold) => number): number => meanOf(cold.map(pick));
    return [
      [
        workload.name,
        client,
        (mean((one) => one.bytesPerS) / 1e6).toFixed(1),
        spreadText(cold.map((one) => one.bytesPerS)),
        `${(mean((one) => one.firstNs) / 1e6).toFixed(1)} ms`,
        perGib(mean((one) => one.clientNsPerByte)),
        perGib(mean((one) => one.originNsPerByte)),
        mean((one) => one.requests).toFixed(0),
        mean((one) => one.connections).toFixed(0),
      ],
    ];
  });
  return lines.length === 0 ? '' : layout([head, ...lines]);
}

/** Random reads of what is there; empty where nothing of the kind was measured. */
export function warmTable(rows: readonly Row[]): string {
  const lines = rows.flatMap(({ workload, client, warm }) => {
    if (warm.length === 0) return [];
    const total = meanOf(warm.map((one) => one.total));
    const own = meanOf(warm.map((one) => one.client));
    const spread = spreadText(warm.map((one) => one.total));
    return [[workload.name, client, thousands(total), thousands(own), spread]];
  });
  const head = ['workload', 'client', 'instr/IO', 'client', 'spread'];
  return lines.length === 0 ? '' : layout([head, ...lines]);
}

/** Random reads of what is not there yet; empty where nothing of the kind was measured. */
export function randomTable(rows: readonly Row[]): string {
  const lines = rows.flatMap(({ workload, client, random }) => {
    if (random.length === 0) return [];
    const sent = random.map((one) => one.sentPerByte);
    return [[workload.name, client, meanOf(sent).toFixed(2), spreadText(sent)]];
  });
  const head = ['workload', 'client', 'bytes fetched per byte read', 'spread'];
  return lines.length === 0 ? '' : layout([head, ...lines]);
}

/** What a goal speaks of; undefined where it was not measured. */
function figure(rows: readonly Row[], workload: string, client: ClientName): number | undefined {
  const row = rows.find((one) => one.workload.name === workload && one.client === client);
  if (row === undefined) return undefined;
  const { cold, warm, random } = row;
  if (cold.length > 0) return meanOf(cold.map((one) => one.bytesPerS));
  if (warm.length > 0) return meanOf(warm.map((one) => one.total));
  return meanOf(random.map((one) => one.sentPerByte));
}

/** Each goal whose two sides were measured; empty where there is none. */
export function goalTable(rows: readonly Row[], goals: readonly Goal[]): string {
  const lines = goals.flatMap(({ workload, client, other, atLeast, atMost }) => {
    const mine = figure(rows, workload, client);
    const theirs = other === undefined ? 1 : figure(rows, workload, other);
    if (mine === undefined || theirs === undefined) return [];
    const ratio = mine / theirs;
    const isMet = ratio >= (atLeast ?? 0) && ratio <= (atMost ?? Number.POSITIVE_INFINITY);
    const wanted = atLeast === undefined ? `<= ${atMost?.toFixed(2)}` : `>= ${atLeast.toFixed(2)}`;
    const name = other === undefined ? client : `${client} / ${other}`;
    return [[workload, name, isMet ? 'met' : 'missed', wanted, ratio.toFixed(2)]];
  });
  const head = ['workload', 'ratio', 'goal', '', ''];
  return lines.length === 0 ? '' : layout([head, ...lines]);
}
