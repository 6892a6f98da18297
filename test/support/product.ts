/**
 * Owns: the product as its user has it: the command ublk-nbd, its output and its exit status.
 * Runs in: device test processes.
 * Must not: import the product's code; what a test says of ublk-nbd is what its command line
 * shows.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Context } from '../../bin/command.ts';
import { isBrief } from './amount.ts';
import { packageFolder } from './package-folder.ts';
import {
  describe,
  must,
  type Outcome,
  type Running,
  type RunOptions,
  run,
  start,
} from './process.ts';
import type { Scope } from './scope.ts';

/** Where sanitizers write; a file there is a finding. */
export const sanitizerReports = '/run/ublk-nbd-sanitizer';

/** What makes ublk-nbd use the build with sanitizers; empty for the build that people use. */
export function sanitizerEnvironment(): Record<string, string> {
  const libraries = process.env.UBLK_NBD_TEST_PRELOAD;
  if (libraries === undefined) return {};
  const options = `log_path=${sanitizerReports}`;
  return {
    UBLK_NBD_BUILD: 'Debug',
    LD_PRELOAD: libraries,
    // node never frees what lives as long as the process. Its mallocs would each cost a walk along
    // the whole stack, and what it frees the page faults of as much memory that is new.
    ASAN_OPTIONS: `${options}:detect_leaks=0:malloc_context_size=2:quarantine_size_mb=32`,
    UBSAN_OPTIONS: `${options}:print_stacktrace=1`,
  };
}

/** The words that run ublk-nbd with these arguments. */
export function commandOf(...args: readonly string[]): string[] {
  return commandIn(packageFolder, args);
}

/** The same as a user without any right, who may not even enter the folder of the package. */
export async function commandOfNobody(scope: Scope, ...args: readonly string[]): Promise<string[]> {
  const folder = `/run/unbd-package-${process.pid}`;
  await must(['mkdir', '-p', folder]);
  await must(['mount', '--bind', packageFolder, folder]);
  scope.defer(async () => {
    await must(['umount', folder]);
    await must(['rmdir', folder]);
  });
  const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups'];
  return ['setpriv', ...nobody, ...commandIn(folder, args)];
}

/** The same of a copy of the package in `folder`. */
export function commandIn(folder: string, args: readonly string[]): string[] {
  const settings = Object.entries(sanitizerEnvironment());
  const env = settings.length === 0 ? [] : ['env', ...settings.map((pair) => pair.join('='))];
  return [...env, process.execPath, join(folder, 'dist', 'bin', 'ublk-nbd.js'), ...args];
}

/**
 * Runs ublk-nbd to its end, whatever its status. An emulated processor needs most of a minute to
 * start node and load the program, so there the same command line is run in this process; give an
 * `env`, which may be empty, for a process of its own.
 */
export function ublkNbd(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  if (isBrief && options.env === undefined && !needsSanitizers(args)) return runHere(args);
  return run(commandOf(...args), options);
}

/** These load the addon; that with sanitizers wants their libraries loaded before node. */
function needsSanitizers([command = '']: readonly string[]): boolean {
  return (
    ['cache', 'doctor', 'info'].includes(command) && process.env.UBLK_NBD_TEST_PRELOAD !== undefined
  );
}

async function runHere(args: readonly string[]): Promise<Outcome> {
  const { runCli } = await import('../../bin/cli.ts');
  const { gateway } = await import('../../bin/gateway.ts');
  const settings = sanitizerEnvironment();
  Object.assign(process.env, settings);
  const startedAtMs = Date.now();
  const output = { stdout: '', stderr: '' };
  const context: Context = {
    gateway,
    print: (text) => {
      output.stdout += `${text}\n`;
    },
    warn: (text) => {
      output.stderr += `ublk-nbd: ${text}\n`;
    },
    signal: () => new AbortController().signal,
  };
  const status = await runCli(args, context, { version: 'test', columns: 80, debug: false });
  // The controller has them now; other programs shall not.
  for (const name of Object.keys(settings)) delete process.env[name];
  const durationMs = Date.now() - startedAtMs;
  return { command: `ublk-nbd ${args.join(' ')}`, status, ...output, durationMs };
}

/** Starts ublk-nbd; the scope ends it. */
export function startUblkNbd(
  scope: Scope,
  args: readonly string[],
  options: RunOptions = {},
): Running {
  return start(scope, commandOf(...args), options);
}

/** Runs ublk-nbd, which has to succeed; its standard output. */
export async function ublkNbdMust(...args: readonly string[]): Promise<string> {
  const outcome = await ublkNbd(args);
  assert.equal(outcome.status, 0, describe(outcome));
  return outcome.stdout;
}

/** One device as `list --json` prints it; a size is a number, or text where that is not exact. */
export interface ListedDevice {
  readonly id: number;
  readonly path: string;
  readonly name: string | null;
  readonly target: string;
  readonly state: string;
  readonly sizeBytes: number | string;
  readonly readOnly: boolean;
  readonly queues: number;
  readonly depth: number;
  readonly logicalBlockBytes: number;
  readonly serverPid: number;
  readonly serverVersion: string | null;
  readonly reason: string | null;
  readonly details?: {
    readonly backend: { readonly [field: string]: unknown };
    readonly dataPath: string;
    readonly maxIoBytes: number;
    readonly counters: { readonly [name: string]: number | string };
  };
}

export async function list(...options: readonly string[]): Promise<ListedDevice[]> {
  return JSON.parse(await ublkNbdMust('list', '--json', ...options)) as ListedDevice[];
}

/** The device's line of `list --json`. */
export async function listed(path: string, ...options: readonly string[]): Promise<ListedDevice> {
  const devices = await list(...options);
  const found = devices.find((device) => device.path === path);
  assert(found, `${path} is not listed: ${JSON.stringify(devices)}`);
  return found;
}

export interface Device {
  /** /dev/ublkbN */
  readonly path: string;
  /** ublkbN */
  readonly node: string;
  readonly id: number;
  disconnect(...options: readonly string[]): Promise<void>;
}

/** Connects a target; the scope disconnects it if the test did not. */
export async function connect(
  scope: Scope,
  target: string,
  ...options: readonly string[]
): Promise<Device> {
  const outcome = await ublkNbd(['connect', target, ...options]);
  assert.equal(outcome.status, 0, describe(outcome));
  const match = /^\/dev\/ublkb(\d+)\n$/.exec(outcome.stdout);
  assert(match, `connect prints the path alone: ${describe(outcome)}`);
  return deviceOf(scope, Number(match[1]));
}

/** A device that is connected; the scope disconnects it if the test does not. */
export function deviceOf(scope: Scope, id: number): Device {
  const path = `/dev/ublkb${id}`;
  let connected = true;
  const device: Device = {
    path,
    node: `ublkb${id}`,
    id,
    disconnect: async (...options) => {
      const outcome = await ublkNbd(['disconnect', path, ...options]);
      assert.equal(outcome.status, 0, describe(outcome));
      connected = false;
      assert(!existsSync(path), `${path} is still there`);
    },
  };
  scope.defer(async () => {
    if (connected && existsSync(`/dev/ublkc${id}`)) await device.disconnect('--force');
  });
  return device;
}

/**
 * Asserts what every refusal looks like: one line on stderr with its code and a cure, the exit
 * status of that code, nothing on stdout. Returns the line.
 */
export function assertRefused(
  outcome: Outcome,
  code: string,
  status: number,
  text: RegExp,
): string {
  assert.equal(outcome.stdout, '', describe(outcome));
  assert.match(outcome.stderr, /^[^\n]+\n$/, `one line on stderr: ${describe(outcome)}`);
  const line = outcome.stderr.trimEnd();
  assert(line.endsWith(`[${code}]`), `the line ends with its code ${code}: ${line}`);
  assert.match(line, text);
  assert.match(line, /[^;]; [^;]/, `the line says what mends it: ${line}`);
  assert.doesNotMatch(line, / at .*:\d+:\d+/, `no stack trace: ${line}`);
  assert.doesNotMatch(line, /\bthe server\b(?! process)/i, `"backend", never "server": ${line}`);
  assert.equal(outcome.status, status, describe(outcome));
  return line;
}
