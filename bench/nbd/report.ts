/**
 * Owns: the text that the bench prints: the table, the ratios and goals, the backends' counts.
 * Runs in: the bench's process on the host.
 * Must not: measure or read files.
 */
import { layout, meanOf, spreadText, thousands } from '../table.ts';
import type { DeviceName, Workload } from './plan.ts';
import type { BackendCounts, Cost } from './results.ts';

/** The repetitions of one workload on one device, as one row. */
export interface Row {
  readonly workload: Workload;
  readonly device: DeviceName;
  readonly costs: readonly Cost[];
}

function mean(row: Row, pick: (cost: Cost) => number): number {
  return meanOf(row.costs.map(pick));
}

/** Instructions per I/O and IOPS of every workload on every device. */
export function costTable(rows: readonly Row[]): string {
  const head = ['workload', 'device', 'instr/IO', 'client', 'nbdkit', 'rest', 'IOPS', 'spread'];
  const lines = rows.map((row) => {
    const total = mean(row, (cost) => cost.total);
    const client = mean(row, (cost) => cost.client);
    const backend = mean(row, (cost) => cost.backend);
    const remote = row.device.startsWith('nbd');
    return [
      row.workload.name,
      row.device,
      thousands(total),
      thousands(client),
      remote ? thousands(backend) : '-',
      thousands(total - client - backend),
      mean(row, (cost) => cost.iops).toFixed(0),
      spreadText(row.costs.map((cost) => cost.total)),
    ];
  });
  return layout([head, ...lines]);
}

/** The rows of `device`, each with that of `other` for the same workload. */
function pairs(rows: readonly Row[], device: DeviceName, other: DeviceName): [Row, Row][] {
  return rows
    .filter((row) => row.device === device)
    .flatMap((row) => {
      const found = rows.find((one) => one.device === other && one.workload === row.workload);
      return found === undefined ? [] : [[row, found] satisfies [Row, Row]];
    });
}

/** Our NBD device against nbd.ko, by workload; empty when one of the two was not measured. */
export function ratioTable(rows: readonly Row[]): string {
  const lines: string[][] = [];
  for (const [row, other] of pairs(rows, 'nbd', 'nbd.ko')) {
    const ratio = (pick: (cost: Cost) => number): number => mean(row, pick) / mean(other, pick);
    const total = ratio((cost) => cost.total);
    const { goal } = row.workload;
    lines.push([
      row.workload.name,
      goal === undefined ? '' : total <= goal ? 'met' : 'missed',
      goal === undefined ? '-' : `<= ${goal.toFixed(2)}`,
      total.toFixed(2),
      ratio((cost) => cost.client).toFixed(2),
      ratio((cost) => cost.backend).toFixed(2),
      ratio((cost) => cost.iops).toFixed(2),
    ]);
  }
  const head = ['ublk-nbd / nbd.ko', 'goal', '', 'instr/IO', 'client', 'nbdkit', 'IOPS'];
  return lines.length === 0 ? '' : layout([head, ...lines]);
}

/** What each of these costs in each I/O: a device with it against one without. */
export function additionsTable(rows: readonly Row[]): string {
  const parts: readonly [string, DeviceName, DeviceName][] = [
    ['structured replies', 'nbd-structured', 'nbd'],
    ['the log of unflushed writes', 'nbd', 'nbd-trust'],
    ['the flags for recovery', 'nbd-trust', 'nbd-mortal'],
  ];
  const lines: string[][] = [];
  for (const [name, withIt, withoutIt] of parts) {
    for (const [row, other] of pairs(rows, withIt, withoutIt)) {
      const without = mean(other, (cost) => cost.total);
      const more = mean(row, (cost) => cost.total) - without;
      const percent = ((more / without) * 100).toFixed(1);
      lines.push([name, row.workload.name, thousands(more), `${percent}%`]);
    }
  }
  const head = ['what is added by', 'workload', 'instr/IO', ''];
  return lines.length === 0 ? '' : layout([head, ...lines]);
}

/** What the two backends were asked to do by the same writes and fsyncs. */
export function countsTable(kernel: BackendCounts, ours: BackendCounts): string {
  const line = (name: string, pick: (counts: BackendCounts) => number, judged = true): string[] => {
    const same = pick(kernel) === pick(ours);
    return [
      name,
      same ? 'equal' : judged ? 'DIFFERENT' : 'differs',
      String(pick(kernel)),
      String(pick(ours)),
    ];
  };
  return layout([
    ['at the backend', '', 'nbd.ko', 'ublk-nbd'],
    line('bytes written', (counts) => counts.bytesWritten),
    line('flushes', (counts) => counts.flushes),
    line('FUA writes', (counts) => counts.fuaWrites),
    line('write requests', (counts) => counts.writes, false),
  ]);
}

export function countsAreEqual(kernel: BackendCounts, ours: BackendCounts): boolean {
  return (
    kernel.bytesWritten === ours.bytesWritten &&
    kernel.flushes === ours.flushes &&
    kernel.fuaWrites === ours.fuaWrites
  );
}
