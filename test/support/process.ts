/**
 * Owns: running and starting other programs for a test, with their output kept and a limit on
 * their time.
 * Runs in: device and interop test processes.
 * Must not: leave a child behind; what start() gives is ended by the scope that it was given.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { Scope } from './scope.ts';

export interface Outcome {
  readonly command: string;
  /** Exit status; 128 + number for a signal, as a shell counts. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly durationMs: number;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string;
  /** After this the program is killed and the call rejects. */
  readonly timeoutMs?: number;
}

export interface Running {
  readonly pid: number;
  readonly exited: Promise<Outcome>;
  /** What it has printed until now. */
  stdout(): string;
  stderr(): string;
  kill(signal: NodeJS.Signals): void;
  /** SIGTERM, and SIGKILL when that has not ended it within STOP_TIMEOUT_MS. */
  stop(): Promise<Outcome>;
}

/** A machine may stand still for ten seconds, and its processes have to end after that. */
const STOP_TIMEOUT_MS = 45_000;

const signalNumbers: Partial<Record<NodeJS.Signals, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGTERM: 15,
};

/**
 * Emulated processors are an order of magnitude slower than real ones; limits are meant for them.
 */
export const DEFAULT_TIMEOUT_MS = 180_000;

const searchPath = `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`;

function launch(argv: readonly string[], options: RunOptions): Running {
  const [program, ...args] = argv;
  assert(program !== undefined);
  const startedAt = Date.now();
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: { ...process.env, PATH: searchPath, LC_ALL: 'C', ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text;
  });
  // A program that ends without reading its input is no failure of the test.
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.input ?? '');
  const exited = new Promise<Outcome>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      const status = code ?? 128 + ((signal && signalNumbers[signal]) || 0);
      const durationMs = Date.now() - startedAt;
      resolve({ command: argv.join(' '), status, ...output, durationMs });
    });
  });
  exited.catch(() => undefined);
  return {
    pid: child.pid ?? 0,
    exited,
    stdout: () => output.stdout,
    stderr: () => output.stderr,
    kill: (signal) => void child.kill(signal),
    stop: async () => {
      child.kill('SIGTERM');
      const hard = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
      return exited.finally(() => clearTimeout(hard));
    },
  };
}

/** Runs a program to its end, whatever its status. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const child = launch(argv, options);
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, timeoutMs);
  const outcome = await child.exited.finally(() => clearTimeout(timer));
  assert(!late, `out of time after ${timeoutMs} ms: ${describe(outcome)}`);
  return outcome;
}

/** Runs a program that has to succeed; its standard output. */
export async function must(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const outcome = await run(argv, options);
  assert.equal(outcome.status, 0, describe(outcome));
  return outcome.stdout;
}

/** Runs a bash command line that has to succeed; its standard output. */
export function shell(commandLine: string, options: RunOptions = {}): Promise<string> {
  return must(['/bin/bash', '-euo', 'pipefail', '-c', commandLine], options);
}

/** Starts a program that goes on; the scope ends it. A test that fails tells how it had ended. */
export function start(scope: Scope, argv: readonly string[], options: RunOptions = {}): Running {
  const child = launch(argv, options);
  let ended: string | undefined;
  const onEnd = (outcome: Outcome): void => {
    ended = describe(outcome);
  };
  void child.exited.then(onEnd, () => undefined);
  scope.onFailure(() => ended);
  scope.defer(async () => void (await child.stop()));
  return child;
}

/** What a failed assertion shows of a program that ran. */
export function describe(outcome: Outcome): string {
  const { command, status, stdout, stderr } = outcome;
  return `${command}\nstatus ${status}\nstdout: ${tail(stdout)}\nstderr: ${tail(stderr)}`;
}

function tail(text: string): string {
  return text.length <= 4000 ? text : `…${text.slice(-4000)}`;
}

/**
 * Waits until `condition` holds; asks often, since what it waits for has no event, but leaves most
 * of a slow processor to what it waits for. The limit is only there so that nothing hangs.
 */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 120_000,
): Promise<void> {
  const deadlineMs = Date.now() + timeoutMs;
  for (;;) {
    const askedAtMs = Date.now();
    if (await condition()) return;
    assert(Date.now() < deadlineMs, `waited ${timeoutMs} ms in vain: ${what}`);
    const pauseMs = Math.max(20, 2 * (Date.now() - askedAtMs));
    await new Promise((resolve) => setTimeout(resolve, Math.min(pauseMs, 500)));
  }
}
