/**
 * Owns: which device tests run in which boots of which kernel.
 * Runs in: the test runner.
 * Must not: start anything.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

export interface Boot {
  /** As the report names it. */
  readonly label: string;
  /** The words before `--` that run a command line under the kernel; undefined = here. */
  readonly runner: readonly string[] | undefined;
  /** How the runner takes the command: as words, or as one line. */
  readonly takes: 'words' | 'line';
  /** Names in test/device, without their ending. */
  readonly files: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

export interface PlanOptions {
  readonly root: string;
  readonly isFull: boolean;
  readonly sanitize: boolean;
  /** Only files whose name contains this. */
  readonly only: string | undefined;
}

/** What differs from kernel to kernel, so that the newest is tried with it in every run. */
const ON_BOTH_KERNELS = [
  'filesystem-keeps-its-bytes',
  'devices-end-cleanly',
  'partitions-appear',
  'one-fsync-is-one-flush',
];
const FOUR_PROCESSORS = ['random-io-verifies'];
/** Of one boot; a kernel that hangs must not hold the rest up. */
const BOOT_TIMEOUT_S = { brief: 2700, full: 10_800 };

export function deviceFiles({ root, only }: PlanOptions): string[] {
  return readdirSync(join(root, 'dist', 'test', 'device'))
    .filter((name) => name.endsWith('.js'))
    .map((name) => name.slice(0, -'.js'.length))
    .filter((name) => name.includes(only ?? ''))
    .sort();
}

/** What has to be loaded in front of node, which itself is built without sanitizers. */
function sanitizerLibraries(): string {
  const find = (name: string): string =>
    execFileSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
  return `${find('libasan.so')}:${find('libubsan.so')}`;
}

/** The boots of this run; `UBLK_NBD_TEST_RUNNER` replaces them by its own. */
export function planBoots(options: PlanOptions, runner = process.env.UBLK_NBD_TEST_RUNNER): Boot[] {
  const files = deviceFiles(options);
  const sanitized = options.sanitize ? { UBLK_NBD_TEST_PRELOAD: sanitizerLibraries() } : {};
  if (runner !== undefined && runner !== '') {
    // What hostile backends send is worth all of its forms where a sanitizer looks on.
    const isThorough = runner === 'native' || options.sanitize;
    const amount = options.isFull ? 'full' : isThorough ? 'normal' : 'brief';
    const environment = { UBLK_NBD_TEST_AMOUNT: amount, ...sanitized };
    const words = runner.trim().split(/\s+/);
    if (runner === 'native') {
      return [{ label: 'here', runner: undefined, takes: 'line', files, environment }];
    }
    // A boot for each file: such a kernel may have one processor only, and its own limit of time.
    return files.map((file) => ({
      label: words[0]?.split('/').slice(-2).join('/') ?? runner,
      runner: words,
      takes: 'line',
      files: [file],
      environment,
    }));
  }
  return virtualMachines(options, files, sanitized);
}

function virtualMachines(
  options: PlanOptions,
  files: readonly string[],
  more: Readonly<Record<string, string>>,
): Boot[] {
  const { root, isFull, sanitize } = options;
  const machine = (kernel: 'floor' | 'newest', processors: number, names: string[]): Boot => ({
    label: `${kernel}, ${processors} processors`,
    runner: [
      join(root, 'test', 'vm', 'run'),
      ...['--kernel', kernel, '--smp', String(processors), '--mem', '3G'],
      ...['--timeout', String(BOOT_TIMEOUT_S[isFull ? 'full' : 'brief'])],
    ],
    takes: 'words',
    files: names,
    environment: {
      UBLK_NBD_TEST_AMOUNT: isFull ? 'full' : 'brief',
      UBLK_NBD_TEST_HALF: kernel === 'floor' ? '0' : '1',
      ...more,
    },
  });
  const wide = files.filter((name) => FOUR_PROCESSORS.includes(name));
  const narrow = files.filter((name) => isFull || !FOUR_PROCESSORS.includes(name));
  const newest = files.filter((name) => isFull || ON_BOTH_KERNELS.includes(name));
  const boots = [
    machine('floor', 2, narrow),
    ...(sanitize ? [] : [machine('newest', 2, newest)]),
    machine('floor', 4, wide),
    ...(isFull ? [machine('newest', 4, wide)] : []),
  ];
  return boots.filter(({ files: names }) => names.length > 0);
}
