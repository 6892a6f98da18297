/**
 * Owns: the bench of NBD: its options, what is printed, the exit status.
 * Runs in: the bench's process on the host; the work is done by bench/nbd/guest in the VM.
 * Must not: measure anything outside the VM, where seconds mean little.
 */
import { runGuest, selected } from '../machine.ts';
import { readServers } from '../measured.ts';
import { readOptions, usageError } from '../options.ts';
import { DEVICES, planRuns, planText, type Run, WORKLOADS } from './plan.ts';
import {
  additionsTable,
  costTable,
  countsAreEqual,
  countsTable,
  type Row,
  ratioTable,
} from './report.ts';
import { imagesAreEqual, readBackendCounts, readCost } from './results.ts';

const USAGE = `usage: npm run bench -- [OPTION]...
  --quick         one repetition instead of two
  --only NAME     only this device or workload (repeatable): ${DEVICES.join(', ')};
                  ${WORKLOADS.map((workload) => workload.name).join(', ')}
  --queues N      queues of our devices, instead of what a user gets by default
  --unix          nbdkit on a unix socket instead of TCP
  --kernel NAME   floor (default), newest, or a version`;

const NAMES: readonly string[] = [...DEVICES, ...WORKLOADS.map((workload) => workload.name)];
const OWN = {
  queues: { type: 'string', default: 'default' },
  unix: { type: 'boolean', default: false },
} as const;

function checkQueues(text: string): string {
  if (/^(default|[1-9]\d?)$/.test(text)) return text;
  usageError(`'${text}' queues make no sense`, USAGE);
}

function collectRows(folder: string, runs: readonly Run[]): Row[] {
  const servers = readServers(folder);
  const rows: Row[] = [];
  for (const workload of WORKLOADS) {
    for (const device of DEVICES) {
      const costs = runs
        .filter((run) => run.workload === workload && run.device === device)
        .map((run) => readCost(folder, run, servers));
      if (costs.length > 0) rows.push({ workload, device, costs });
    }
  }
  return rows;
}

/** Prints what the backends counted; false when the two clients did not ask for the same. */
function judgeBackends(folder: string): boolean {
  const kernel = readBackendCounts(folder, 'nbd.ko');
  const ours = readBackendCounts(folder, 'nbd');
  const same = imagesAreEqual(folder);
  process.stdout.write(`\n${countsTable(kernel, ours)}\n`);
  process.stdout.write(`the two images have ${same ? 'the same bytes' : 'DIFFERENT bytes'}\n`);
  return same && countsAreEqual(kernel, ours);
}

/** `words`: the command line. Sets the exit status. */
export function benchNbd(words: readonly string[]): void {
  const { options, values } = readOptions(words, OWN, NAMES, USAGE);
  const { only, repetitions, kernel } = options;
  const transport = values.unix ? 'unix' : 'tcp';
  const queues = checkQueues(values.queues);
  const devices = selected(DEVICES, (device) => device, only);
  const workloads = selected(WORKLOADS, (workload) => workload.name, only);
  const runs = planRuns(devices, workloads, repetitions);
  const compare = devices.includes('nbd') && devices.includes('nbd.ko');
  const folder = runGuest({
    script: 'bench/nbd/guest',
    words: [transport, queues, compare ? '1' : '0', ...devices],
    kernel,
    memory: '3G',
    plan: planText(runs),
  });

  const rows = collectRows(folder, runs);
  process.stdout.write(`\n${costTable(rows)}\n`);
  for (const table of [ratioTable(rows), additionsTable(rows)]) {
    if (table !== '') process.stdout.write(`\n${table}\n`);
  }
  if (compare && !judgeBackends(folder)) {
    process.stderr.write(
      'bench: the same writes and fsyncs reached the two backends differently\n',
    );
    process.exitCode = 1;
  }
}
