/**
 * Owns: one run of the native helper: its argument list, its deadline, its one line of JSON, and
 * its errors in people's words.
 * Runs in: the controller, `connect --foreground`, and for `doctor` the CLI.
 * Must not: wait for a helper beyond its deadline: one that hangs in the driver is killed, or left
 * behind.
 */
import { spawn } from 'node:child_process';
import { GatewayError } from '../protocols/errors.ts';
import { helperPath } from './native.ts';

const MAXIMUM_OUTPUT_BYTES = 64 * 1024;

export type HelperAnswer = Readonly<Record<string, unknown>>;

/**
 * Runs `control COMMAND key=value...`; resolves with what it printed, whatever that says. `signal`
 * kills it; without `timeoutMs` that alone bounds it.
 */
export function runHelper(
  command: string,
  values: Readonly<Record<string, string | number | bigint>>,
  timeoutMs: number | undefined,
  signal?: AbortSignal,
): Promise<HelperAnswer> {
  const argv = Object.entries(values).map(([key, value]) => `${key}=${value}`);
  const child = spawn(helperPath(), ['control', command, ...argv], {
    cwd: '/',
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(signal === undefined ? {} : { signal, killSignal: 'SIGKILL' as const }),
  });
  return new Promise((resolve, reject) => {
    const output = { stdout: '', stderr: '' };
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].on('data', (chunk: Buffer) => {
        if (output[stream].length < MAXIMUM_OUTPUT_BYTES) output[stream] += chunk.toString();
      });
    }
    const onLate = (limitMs: number): void => {
      // It may be beyond reach in the driver: then it stays behind, and nothing waits for it.
      child.kill('SIGKILL');
      child.unref();
      child.stdout.destroy();
      child.stderr.destroy();
      reject(tooLate(command, limitMs));
    };
    const timer = timeoutMs === undefined ? undefined : setTimeout(onLate, timeoutMs, timeoutMs);
    child.once('error', (cause) => {
      clearTimeout(timer);
      reject(
        new GatewayError('UNBD_INTERNAL', `the helper cannot be started: ${cause.message}`, {
          hint: 'run: npm run build',
          cause,
        }),
      );
    });
    child.once('close', (status, signal) => {
      clearTimeout(timer);
      const answer = parseAnswer(output.stdout);
      if (answer !== undefined) resolve(answer);
      else reject(noAnswer(command, output.stderr, signal ?? `status ${status}`));
    });
  });
}

/** The one line of JSON; undefined for anything else. */
export function parseAnswer(stdout: string): HelperAnswer | undefined {
  try {
    const value: unknown = JSON.parse(stdout);
    return typeof value === 'object' && value !== null ? (value as HelperAnswer) : undefined;
  } catch {
    return undefined;
  }
}

function noAnswer(command: string, stderr: string, how: string): GatewayError {
  const detail = stderr.trim() === '' ? how : stderr.trim();
  return new GatewayError('UNBD_CONTROL_FAILED', `the helper failed on ${command}: ${detail}`, {
    hint: 'see: ublk-nbd doctor',
  });
}

function tooLate(command: string, timeoutMs: number): GatewayError {
  const text = `the driver did not finish ${command} in ${timeoutMs / 1000} s`;
  return new GatewayError('UNBD_CONTROL_FAILED', text, { hint: 'look at the kernel log: dmesg' });
}
