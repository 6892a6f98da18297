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
/** Its short form is played where a test costs less, its long form by `npm run soak`. */
const TOO_LONG_FOR_A_VM = ['soak-leaks-nothing'];
const FOUR_PROCESSORS = ['network-can-fail', 'random-io-verifies'];
/**
 * A few forms of what a backend may send are played with sanitizers, which look at all of them in
 * the tests of the native core; all are played without, in boots at once.
 */
const MANY_FORMS = 'hostile-backends-harm-nothing';
const SHARES = 2;
/**
 * Where the addon does the work: what a sanitizer is for. Of the other files such a run plays the
 * claims that the virtual machines of `npm test` leave out, with the addon that people use.
 */
const WORTH_A_SANITIZER = /^(backend-can|devices-end|hostile|random|server|soak|upgrade-keeps)/;
/** A test runs on one processor most of the time, so that boots side by side save time. */
const FLOOR_BOOTS = 3;
/** Seconds on an emulated processor, of the files that take long; they even out the boots. */
const LONG_FILES: Readonly<Record<string, number>> = {
  'backend-can-die': 65,
  'backend-can-forget': 45,
  'bad-input-is-told-in-one-line': 45,
  'commands-work-on-a-device': 60,
  'controller-can-die': 115,
  'discard-reaches-the-backend': 50,
  'disconnect-never-hangs': 75,
  'filesystem-keeps-its-bytes': 130,
  'filesystem-survives-kills': 80,
  'hostile-backends-harm-nothing': 50,
  'http-cache-keeps': 45,
  'http-images-mount': 70,
  'interrupted-connect-leaves-nothing': 70,
  'local-targets-work': 80,
  'network-can-fail': 100,
  'nobody-waits-for-ever': 60,
  'read-only-is-read-only': 45,
  'server-process-can-die': 140,
  'sigterm-ends-what-it-should': 75,
  'upgrade-keeps-io-going': 100,
};
const OTHER_FILES_S = 30;
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
    const isWorthIt = isFull || WORTH_A_SANITIZER.test(file);
    const boots = isWorthIt ? [boot(file, brief)] : [];
    if (file === MANY_FORMS) {
      for (let n = 0; n < SHARES; n += 1) {
        const share = { UBLK_NBD_TEST_SHARE: `${n}/${SHARES}` };
        boots.push(boot(file, { UBLK_NBD_TEST_AMOUNT: 'normal', ...share }));
      }
    }
    if (isWorthIt || !hasLeftOut(root, file)) return boots;
    return [boot(file, { UBLK_NBD_TEST_AMOUNT: 'rest' })];
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
