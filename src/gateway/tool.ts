/**
 * Owns: running one system tool (mount, umount, mknod) to its end.
 * Runs in: the CLI and the controller.
 * Must not: use a shell, keep unbounded output, or wait without a bound.
 */
import { spawn } from 'node:child_process';

const MAXIMUM_OUTPUT_BYTES = 64 * 1024;
/** A tool that the kernel holds, as one that closes a disk whose reads wait, is left behind. */
const PATIENCE_MS = 1_000;

export interface ToolResult {
  /**
   * Exit status; 127 when it could not be started, 124 when its time was up, 128 when it was
   * killed.
   */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ToolOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/**
 * Never rejects. An abort and the time limit end the tool with SIGTERM; one that stays for another
 * second is no longer waited for.
 */
export function runTool(
  command: string,
  argv: readonly string[],
  options: ToolOptions,
): Promise<ToolResult> {
  return new Promise((resolve) => {
    const child = spawn(command, argv, { stdio: ['ignore', 'pipe', 'pipe'] });
    const output = { stdout: '', stderr: '' };
    let late = false;
    let timer: NodeJS.Timeout;
    const end = (status: number): void => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', terminate);
      resolve({ status, ...output });
    };
    const leave = (): void => {
      child.unref();
      child.stdout.destroy();
      child.stderr.destroy();
      end(late ? 124 : 128);
    };
    const terminate = (): void => {
      child.kill('SIGTERM');
      clearTimeout(timer);
      timer = setTimeout(leave, PATIENCE_MS);
    };
    timer = setTimeout(() => {
      late = true;
      terminate();
    }, options.timeoutMs);
    options.signal?.addEventListener('abort', terminate, { once: true });
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].on('data', (chunk: Buffer) => {
        if (output[stream].length < MAXIMUM_OUTPUT_BYTES) output[stream] += chunk.toString();
      });
    }
    child.once('error', (error) => {
      output.stderr = error.message;
      end(127);
    });
    child.once('close', (code) => end(late ? 124 : (code ?? 128)));
  });
}
