/**
 * Owns: running device tests in their boots, and judging what came of each file.
 * Runs in: the test runner, on the host; the tests run under the kernel that a boot brings.
 * Must not: let a file that crashed, tested nothing or took the kernel with it pass for a success.
 */
import { spawn } from 'node:child_process';
import { type Boot, type PlanOptions, planBoots } from './device-plan.ts';
import { addTotals, Lines, newTotals, TapReader, type TapTest, type Totals } from './tap-stream.ts';

/** Of one file, in seconds; its claims have limits of their own. */
const FILE_TIMEOUT_S = 10_000;
/**
 * Boots at once: the machine for which the time of `npm test` is meant has two processors. Those
 * that are given have one each, and wait a third of their time.
 */
const AT_ONCE = { ours: 2, given: 3 };

/** What the kernel says when it is in trouble. */
const KERNEL_TROUBLE = 'BUG:|WARNING:|Oops|KASAN:|general protection|blocked for more than';

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** The bash command line that runs a boot's files, with marks between them. */
function commandLine({ files, environment, runner }: Boot, root: string): string {
  const settings = Object.entries(environment).map(
    ([name, value]) => `export ${name}=${quoted(value)}`,
  );
  const log = '/run/ublk-nbd/log/ublk-nbd.log';
  // Reading every map costs half of a start, and an emulated processor starts node often.
  const maps = runner === undefined ? '--enable-source-maps ' : '';
  const node = `${process.execPath} ${maps}--test-reporter=tap --test-force-exit`;
  return [
    `cd ${quoted(root)}`,
    ...settings,
    'dmesg -C 2>/dev/null',
    `for f in ${files.join(' ')}; do`,
    '  echo "# file $f"',
    `  timeout -k 20 ${FILE_TIMEOUT_S} ${node} dist/test/device/$f.js 2>&1`,
    '  status=$?',
    `  dmesg 2>/dev/null | grep -E '${KERNEL_TROUBLE}' | sed 's/^/# kernel: /'`,
    '  dmesg -C 2>/dev/null',
    '  if [ $status != 0 ]; then',
    `    tail -n 60 ${log} 2>/dev/null | sed 's/^/# log: /'`,
    `    ${process.execPath} dist/test/support/sweep.js`,
    '  fi',
    '  echo "# end $f $status"',
    'done',
  ].join('\n');
}

interface FileState {
  readonly name: string;
  tests: number;
  failed: number;
  readonly notes: string[];
  readonly tap: TapReader;
}

/** Follows one boot's output; tells every test as it comes. */
class BootReport {
  readonly totals = newTotals();
  readonly #boot: Boot;
  readonly #print: (line: string) => void;
  readonly #missing: Set<string>;
  #file: FileState | undefined;

  constructor(boot: Boot, print: (line: string) => void) {
    this.#boot = boot;
    this.#print = print;
    this.#missing = new Set(boot.files);
  }

  line(text: string): void {
    const begin = /^# file (\S+)/.exec(text);
    const end = /^# end (\S+) (\d+)/.exec(text);
    if (begin?.[1]) this.#begin(begin[1]);
    else if (end?.[1]) this.#end(Number(end[2]));
    else if (/^# (log|kernel|ended): /.test(text)) this.#file?.notes.push(text);
    else if (text.startsWith('# figure: ')) this.#print(text.slice(2));
    else this.#file?.tap.line(text);
  }

  #begin(name: string): void {
    const tap = new TapReader(0, (test) => this.#test(test));
    this.#file = { name, tests: 0, failed: 0, notes: [], tap };
  }

  #test(test: TapTest): void {
    const file = this.#file;
    if (file === undefined) return;
    file.tests += 1;
    this.totals[test.result] += 1;
    const seconds = ((test.durationMs ?? 0) / 1000).toFixed(1);
    this.#print(`${test.result} ${seconds} s  ${file.name}: ${test.name}`);
    if (test.result === 'passed') return;
    file.failed += 1;
    for (const line of test.details) this.#print(`  | ${line}`);
  }

  #end(status: number): void {
    const file = this.#file;
    if (file === undefined) return;
    file.tap.end();
    this.#missing.delete(file.name);
    this.#file = undefined;
    const kernel = file.notes.filter((line) => line.startsWith('# kernel'));
    if (file.tests === 0) this.#fail(file.name, 'no test ran', file.notes);
    else if (file.tap.planned !== file.tests)
      this.#fail(file.name, 'not all tests ran', file.notes);
    else if (status !== 0 && file.failed === 0)
      this.#fail(file.name, `status ${status}`, file.notes);
    else if (kernel.length > 0) this.#fail(file.name, 'the kernel is in trouble', kernel);
    else if (file.failed > 0) for (const line of file.notes) this.#print(`  | ${line}`);
  }

  #fail(name: string, why: string, notes: readonly string[]): void {
    this.totals.failed += 1;
    this.#print(`failed  ${name}: ${why}`);
    for (const line of notes) this.#print(`  | ${line}`);
  }

  /** The kernel is gone, or the runner ended: what has no end yet is a failure. */
  finish(status: number): void {
    this.#file?.tap.end();
    const because = `did not run to its end; the runner's status was ${status}`;
    for (const name of this.#missing) this.#fail(name, because, this.#file?.notes ?? []);
    if (this.#missing.size === 0 && status !== 0) this.#fail(this.#boot.label, because, []);
  }
}

async function runBoot(
  boot: Boot,
  options: PlanOptions,
  print: (line: string) => void,
): Promise<Totals> {
  const startedAtMs = Date.now();
  const report = new BootReport(boot, (line) => print(`[${boot.label}] ${line}`));
  const command = `${commandLine(boot, options.root)}\nexit 0`;
  const last = boot.takes === 'words' ? ['/bin/bash', '-c', command] : [command];
  const argv =
    boot.runner === undefined ? ['/bin/bash', '-c', command] : [...boot.runner, '--', ...last];
  const child = spawn(argv[0] ?? '', argv.slice(1), {
    cwd: options.root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines = new Lines((line) => report.line(line));
  child.stdout.setEncoding('utf8').on('data', (piece: string) => lines.push(piece));
  const errors = new Lines((line) => print(`[${boot.label}] ${line}`));
  child.stderr.setEncoding('utf8').on('data', (piece: string) => errors.push(piece));
  const status = await new Promise<number>((resolve) => {
    child.once('error', () => resolve(127));
    child.once('close', (code) => resolve(code ?? 128));
  });
  lines.end();
  errors.end();
  report.finish(status);
  const seconds = Math.round((Date.now() - startedAtMs) / 1000);
  print(`[${boot.label}] ${boot.files.length} files in ${seconds} s`);
  return report.totals;
}

/** Runs the whole layer; zero tests, or a skip, is a failure. */
export async function runDeviceLayer(
  options: PlanOptions,
  print: (line: string) => void,
): Promise<Totals> {
  const totals = newTotals();
  const boots = planBoots(options);
  const next = async (): Promise<void> => {
    for (let boot = boots.shift(); boot !== undefined; boot = boots.shift()) {
      addTotals(totals, await runBoot(boot, options, print));
    }
  };
  const isGiven = boots.some(({ takes }) => takes === 'line');
  const length = isGiven ? AT_ONCE.given : AT_ONCE.ours;
  await Promise.all(Array.from({ length }, next));
  if (totals.passed + totals.failed === 0) {
    totals.failed += 1;
    print('failed  no device test ran');
  }
  if (totals.skipped > 0) {
    totals.failed += 1;
    print('failed  a device test was skipped');
  }
  return totals;
}
