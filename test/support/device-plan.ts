/**
 * Owns: which device tests run in which boots of which kernel.
 * Runs in: the test runner.
 * Must not: start anything.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
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
const ON_BOTH_KERNELS = ['filesystem-keeps-its-bytes', 'one-fsync-is-one-flush'];
/**
 * Played where a test costs less, and in `test:full`: the short form of a soak, a cluster of Ceph,
 * which takes minutes to start on an emulated processor, and what no kernel has much to do with.
 */
const TOO_LONG_FOR_A_VM = [
  'http-prefetch-brings-all',
  'http-spool-needs-no-ranges',
  's3-faults-are-outlived',
  's3-images-mount',
  's3-sessions-are-renewed',
  'soak-leaks-nothing',
];
const FOUR_PROCESSORS = ['network-can-fail', 'random-io-verifies'];
/**
 * Where the addon does the work: what a sanitizer is for. It doubles the start of every process, so
 * that a run with sanitizers plays the least with them, and what the virtual machines of `npm test`
 * leave out, of every file, with the addon that people use.
 */
const WORTH_A_SANITIZER = /^(backend-can|devices-end|hostile|random|server)/;
/**
 * A test runs on one processor most of the time, so that boots side by side save time; with one
 * more than there would have to be, two that run at a time end at about the same time.
 */
const FLOOR_BOOTS = 4;
/** Seconds on an emulated processor, of the files that take long; they even out the boots. */
const LONG_FILES: Readonly<Record<string, number>> = {
  'backend-can-die': 60,
  'backend-can-forget': 40,
  'bad-input-is-told-in-one-line': 30,
  'commands-work-on-a-device': 35,
  'controller-can-die': 55,
  'disconnect-never-hangs': 75,
  'every-adapter-conforms': 30,
  'filesystem-keeps-its-bytes': 90,
  'filesystem-survives-kills': 40,
  'hostile-backends-harm-nothing': 35,
  'http-cache-keeps': 35,
  'http-faults-are-outlived': 55,
  'http-images-mount': 55,
  'http-prefetch-brings-all': 50,
  'killed-process-is-silent': 35,
  'network-can-fail': 100,
  'partitions-appear': 45,
  'random-io-verifies': 45,
  's3-faults-are-outlived': 105,
  's3-images-mount': 240,
  's3-sessions-are-renewed': 60,
  'server-process-can-die': 60,
  'soak-leaks-nothing': 120,
  'upgrade-keeps-io-going': 40,
};
const OTHER_FILES_S = 20;
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
  const asked = Object.entries(process.env).filter(([name]) => name.startsWith('UBLK_NBD_SOAK_'));
  const more = {
    ...(options.sanitize ? { UBLK_NBD_TEST_PRELOAD: sanitizerLibraries() } : {}),
    ...(Object.fromEntries(asked) as Record<string, string>),
  };
  if (runner !== undefined && runner !== '') return givenRunner(options, runner, files, more);
  return virtualMachines(options, files, more);
}

/** A boot for each file: such a kernel may have one processor only, and its own limit of time. */
function givenRunner(
  { root, isFull, sanitize }: PlanOptions,
  runner: string,
  files: readonly string[],
  more: Readonly<Record<string, string>>,
): Boot[] {
  if (runner === 'native') {
    const environment = { UBLK_NBD_TEST_AMOUNT: isFull ? 'full' : 'normal', ...more };
    return [{ label: 'here', runner: undefined, takes: 'line', files, environment }];
  }
  const words = runner.trim().split(/\s+/);
  const label = words[0]?.split('/').slice(-2).join('/') ?? runner;
  const boot = (file: string, environment: Record<string, string>): Boot => ({
    label,
    runner: words,
    takes: 'line',
    files: [file],
    environment,
  });
  const brief = { UBLK_NBD_TEST_AMOUNT: isFull ? 'full' : 'brief', ...more };
  const ordered = longestFirst(files);
  if (!sanitize) return ordered.map((file) => boot(file, brief));
  return ordered.flatMap((file) => {
    const leavesOut = hasLeftOut(root, file);
    const isShort = leavesOut && !isFull && !TOO_LONG_FOR_A_VM.includes(file);
    const boots: Boot[] = [];
    if (isFull || WORTH_A_SANITIZER.test(file)) {
      boots.push(boot(file, isShort ? { ...brief, UBLK_NBD_TEST_AMOUNT: 'least' } : brief));
    } else if (TOO_LONG_FOR_A_VM.includes(file)) {
      boots.push(boot(file, { UBLK_NBD_TEST_AMOUNT: 'brief' }));
    }
    if (isShort) boots.push(boot(file, { UBLK_NBD_TEST_AMOUNT: 'rest' }));
    return boots;
  });
}

/** Whether some of its claims are not for the least amount. */
function hasLeftOut(root: string, file: string): boolean {
  return readFileSync(join(root, 'dist', 'test', 'device', `${file}.js`), 'utf8').includes(
    'claimToo',
  );
}

function secondsOf(name: string): number {
  return LONG_FILES[name] ?? OTHER_FILES_S;
}

/** What comes last must not be what all others wait for. */
function longestFirst(files: readonly string[]): string[] {
  return [...files].sort((a, b) => secondsOf(b) - secondsOf(a));
}

/** At most `count` groups that take about the same time; the longest first. */
export function evenGroups(files: readonly string[], count: number): string[][] {
  const groups = Array.from({ length: count }, () => ({ names: [] as string[], total: 0 }));
  for (const name of longestFirst(files)) {
    const shortest = groups.reduce((least, one) => (one.total < least.total ? one : least));
    shortest.names.push(name);
    shortest.total += secondsOf(name);
  }
  return groups.map(({ names }) => names).filter((names) => names.length > 0);
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
      UBLK_NBD_TEST_AMOUNT: isFull ? 'full' : 'least',
      UBLK_NBD_TEST_HALF: kernel === 'floor' ? '0' : '1',
      ...more,
    },
  });
  const wide = files.filter((name) => FOUR_PROCESSORS.includes(name));
  const elsewhere = [...FOUR_PROCESSORS, ...TOO_LONG_FOR_A_VM];
  const narrow = files.filter((name) => isFull || !elsewhere.includes(name));
  const newest = files.filter((name) => isFull || ON_BOTH_KERNELS.includes(name));
  const boots = [
    ...evenGroups(narrow, FLOOR_BOOTS).map((names) => machine('floor', 2, names)),
    ...(sanitize ? [] : [machine('newest', 2, newest)]),
    machine('floor', 4, wide),
    ...(isFull ? [machine('newest', 4, wide)] : []),
  ];
  return boots.filter(({ files: names }) => names.length > 0);
}
