/**
 * Owns: `npm run bench`: its options, the one run of the test VM, the exit status.
 * Runs in: its own process on the host; the work is done by bench/guest in the VM.
 * Must not: measure anything outside the VM, where seconds mean little.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { DEVICES, planRuns, planText, type Run, WORKLOADS } from './plan.ts';
import {
  costTable,
  countsAreEqual,
  countsTable,
  type Row,
  ratioTable,
  recoveryTable,
} from './report.ts';
import { imagesAreEqual, readBackendCounts, readCost, readServers } from './results.ts';

const USAGE = `usage: npm run bench -- [OPTION]...
  --quick         one repetition instead of two
  --only NAME     only this device or workload (repeatable): ${DEVICES.join(', ')};
                  ${WORKLOADS.map((workload) => workload.name).join(', ')}
  --queues N      queues of our devices, instead of what a user gets by default
  --unix          nbdkit on a unix socket instead of TCP
  --kernel NAME   floor (default), newest, or a version`;

/** A run takes about 25 s of the host's time at worst; beyond this something hangs. */
const TIMEOUT_S = 3600;

interface Options {
  readonly repetitions: number;
  readonly only: readonly string[];
  readonly queues: string;
  readonly transport: 'tcp' | 'unix';
  readonly kernel: string;
}

function usage(problem: string): never {
  process.stderr.write(`bench: ${problem}\n${USAGE}\n`);
  process.exit(2);
}

function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        quick: { type: 'boolean', default: false },
        only: { type: 'string', multiple: true, default: [] },
        queues: { type: 'string', default: 'default' },
        unix: { type: 'boolean', default: false },
        kernel: { type: 'string', default: 'floor' },
      },
    });
    const names = [...DEVICES, ...WORKLOADS.map((workload) => workload.name)];
    const unknown = values.only.find((name) => !(names as string[]).includes(name));
    if (unknown !== undefined) usage(`no device or workload has the name '${unknown}'`);
    if (!/^(default|[1-9]\d?)$/.test(values.queues))
      usage(`'${values.queues}' queues make no sense`);
    return {
      repetitions: values.quick ? 1 : 2,
      only: values.only,
      queues: values.queues,
      transport: values.unix ? 'unix' : 'tcp',
      kernel: values.kernel,
    };
  } catch (error) {
    usage(error instanceof Error ? error.message : String(error));
  }
}

/** The named ones; all of them where none is named. */
function selected<T>(all: readonly T[], name: (one: T) => string, only: readonly string[]): T[] {
  const chosen = all.filter((one) => only.includes(name(one)));
  return chosen.length > 0 ? chosen : [...all];
}

function runGuest(folder: string, options: Options, devices: string[], compare: boolean): void {
  const { kernel, transport, queues } = options;
  const runner = ['--kernel', kernel, '--icount', '--mem', '3G', '--timeout', String(TIMEOUT_S)];
  const guest = ['bench/guest', folder, transport, queues, compare ? '1' : '0', ...devices];
  const { status, error } = spawnSync('test/vm/run', [...runner, '-w', folder, '--', ...guest], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (error !== undefined) throw error;
  if (status !== 0) {
    process.stderr.write('bench: the measurements failed; what happened stands above\n');
    process.exit(status ?? 1);
  }
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

const options = readOptions();
const devices = selected(DEVICES, (device) => device, options.only);
const workloads = selected(WORKLOADS, (workload) => workload.name, options.only);
const runs = planRuns(devices, workloads, options.repetitions);
const compare = devices.includes('nbd') && devices.includes('nbd.ko');
const folder = join(process.cwd(), 'build', 'bench');
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
writeFileSync(join(folder, 'plan'), planText(runs));
runGuest(folder, options, devices, compare);

const rows = collectRows(folder, runs);
process.stdout.write(`\n${costTable(rows)}\n`);
for (const table of [ratioTable(rows), recoveryTable(rows)]) {
  if (table !== '') process.stdout.write(`\n${table}\n`);
}
if (compare && !judgeBackends(folder)) {
  process.stderr.write('bench: the same writes and fsyncs reached the two backends differently\n');
  process.exitCode = 1;
}
