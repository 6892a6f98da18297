/**
 * Owns: `npm test`: the layers one after another, their totals, the one closing line.
 * Runs as: a process on the host, started by scripts/test.
 * Must not: end with success unless every layer that was asked for ran tests and none failed.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { runDeviceLayer } from './device-layer.ts';
import { packageFolder } from './package-folder.ts';
import { addTotals, Lines, newTotals, TapReader, type TapTest, type Totals } from './tap-stream.ts';

const { values } = parseArgs({
  options: {
    full: { type: 'boolean', default: false },
    sanitize: { type: 'boolean', default: false },
    layer: { type: 'string', multiple: true },
    only: { type: 'string' },
  },
});

/** Lines of what failed that are told again; a bound, should everything fail. */
const MAXIMUM_REPEATED = 100;

/** A file takes seconds; this is for one that hangs. */
const UNIT_FILE_LIMIT_S = '300';
/** Some files wait most of their time. */
const UNIT_LANES = 3;

/** What failed and what is said of it, as it was printed. */
const failures: string[] = [];

function print(line: string): void {
  process.stdout.write(`${line}\n`);
  if (/^(\[[^\]]*\] )?(failed | {2}\| )/.test(line)) failures.push(line);
}

/** Runs a program that prints TAP. A test that passed is told only where it has a `prefix`. */
async function runTap(argv: readonly string[], prefix = ''): Promise<Totals> {
  const totals = newTotals();
  const onTest = (test: TapTest): void => {
    totals[test.result] += 1;
    if (test.result !== 'passed' || prefix !== '') print(`${test.result}  ${prefix}${test.name}`);
    if (test.result !== 'failed') return;
    for (const line of test.details) print(`  | ${line}`);
  };
  const tap = new TapReader(0, onTest);
  const lines = new Lines((line) => tap.line(line));
  const child = spawn(argv[0] ?? '', argv.slice(1), {
    cwd: packageFolder,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  child.stdout.setEncoding('utf8').on('data', (piece: string) => lines.push(piece));
  const status = await new Promise<number>((resolve) => {
    child.once('error', () => resolve(127));
    child.once('close', (code) => resolve(code ?? 128));
  });
  lines.end();
  tap.end();
  if (totals.passed + totals.failed === 0 || (status !== 0 && totals.failed === 0)) {
    totals.failed += 1;
    print(`failed  ${argv[0]} ended with status ${status}`);
  }
  return totals;
}

/** Each file in a process of its own, some at a time; what it promised to test must have come. */
async function runUnitFiles(): Promise<Totals> {
  // By the sources: what was compiled of a file that is gone may still be there.
  const names = readdirSync(join(packageFolder, 'test', 'unit'))
    .filter((name) => name.endsWith('.ts'))
    .map((name) => name.slice(0, -'.ts'.length))
    .filter((name) => name.includes(values.only ?? ''))
    .sort();
  const totals = newTotals();
  const lane = async (): Promise<void> => {
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      const path = join('dist', 'test', 'unit', `${name}.js`);
      const argv = ['timeout', UNIT_FILE_LIMIT_S, process.execPath, path];
      addTotals(totals, await runTap(argv, `${name}: `));
    }
  };
  await Promise.all(Array.from({ length: UNIT_LANES }, lane));
  return totals;
}

const layers: Readonly<Record<string, () => Promise<Totals>>> = {
  unit: runUnitFiles,
  native: () => runTap(['make', '--no-print-directory', '-j2', '-C', 'native/test', 'check']),
  device: () =>
    runDeviceLayer(
      {
        root: packageFolder,
        isFull: values.full,
        sanitize: values.sanitize,
        only: values.only,
      },
      print,
    ),
};

const totals = newTotals();
for (const name of values.layer ?? Object.keys(layers)) {
  const layer = layers[name];
  if (layer === undefined) throw new Error(`there is no layer ${name}`);
  print(`# layer: ${name}`);
  const startedAtMs = Date.now();
  const part = await layer();
  addTotals(totals, part);
  const seconds = Math.round((Date.now() - startedAtMs) / 1000);
  print(`# layer ${name}: ${part.passed} tests passed, ${part.failed} failed, in ${seconds} s`);
}
// Of a long log often its end only is kept, and whoever looks for a failure looks there.
if (failures.length > 0) print('# what failed, once more:');
for (const line of failures.slice(0, MAXIMUM_REPEATED)) process.stdout.write(`${line}\n`);
const skipped = totals.skipped > 0 ? `, ${totals.skipped} skipped` : '';
print(`${totals.passed} passed, ${totals.failed} failed${skipped}`);
process.exitCode = totals.failed === 0 ? 0 : 1;
