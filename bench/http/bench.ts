/**
 * Owns: the bench of HTTP: its options and what is printed.
 * Runs in: the bench's process on the host; the work is done by bench/http/guest in the VM.
 * Must not: measure anything outside the VM, where seconds mean little.
 */
import { MAXIMUM_PARALLEL } from '../../src/protocols/source/parallel-limit.ts';
import { runGuest, selected } from '../machine.ts';
import { readServers } from '../measured.ts';
import { readOptions, usageError } from '../options.ts';
import { CLIENTS, GOALS, IMAGE_MIB, planRuns, planText, type Run, WORKLOADS } from './plan.ts';
import { coldTable, goalTable, type Row, randomTable, warmTable } from './report.ts';
import { readCold, readRandom, readWarm } from './results.ts';

const USAGE = `usage: npm run bench -- http [OPTION]...
  --quick         one repetition instead of two
  --only NAME     only this client or workload (repeatable): ${CLIENTS.join(', ')};
                  ${WORKLOADS.map((workload) => workload.name).join(', ')}
  --connections N of curl; our device has up to ${MAXIMUM_PARALLEL}, which is the default
  --kernel NAME   floor (default), newest, or a version`;

const NAMES: readonly string[] = [...CLIENTS, ...WORKLOADS.map((workload) => workload.name)];
const OWN = { connections: { type: 'string', default: String(MAXIMUM_PARALLEL) } } as const;

/** Ranges of whole mebibytes. */
function checkConnections(text: string): string {
  if (/^[1-9]\d?$/.test(text) && IMAGE_MIB % Number(text) === 0) return text;
  usageError(`'${text}' connections do not divide ${IMAGE_MIB}`, USAGE);
}

function collectRows(folder: string, runs: readonly Run[]): Row[] {
  const servers = readServers(folder);
  return WORKLOADS.flatMap((workload) =>
    workload.clients.flatMap((client) => {
      const own = runs.filter((run) => run.workload === workload && run.client === client);
      const of = (kind: string): Run[] => own.filter((run) => run.workload.kind === kind);
      const row = {
        workload,
        client,
        cold: of('cold').map((run) => readCold(folder, run, servers)),
        warm: of('warm').map((run) => readWarm(folder, run, servers)),
        random: of('random').map((run) => readRandom(folder, run)),
      };
      return own.length === 0 ? [] : [row];
    }),
  );
}

/** `words`: the command line after `http`. */
export function benchHttp(words: readonly string[]): void {
  const { options, values } = readOptions(words, OWN, NAMES, USAGE);
  const { only, repetitions, kernel } = options;
  const connections = checkConnections(values.connections);
  const clients = selected(CLIENTS, (client) => client, only);
  const workloads = selected(WORKLOADS, (workload) => workload.name, only);
  const runs = planRuns(clients, workloads, repetitions);
  const folder = runGuest({
    script: 'bench/http/guest',
    words: [String(IMAGE_MIB), connections],
    kernel,
    memory: '4G',
    plan: planText(runs),
  });
  const rows = collectRows(folder, runs);
  const tables = [coldTable(rows), warmTable(rows), randomTable(rows), goalTable(rows, GOALS)];
  for (const table of tables) {
    if (table !== '') process.stdout.write(`\n${table}\n`);
  }
}
