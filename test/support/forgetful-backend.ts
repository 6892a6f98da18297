/**
 * Owns: a backend that forgets what was not flushed when it is killed, started again at its port.
 * Runs in: device test processes; the backend is a process of its own.
 * Must not: end it softly; it is for kill -9.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { freePort } from './backends.ts';
import { packageFolder } from './package-folder.ts';
import { type Running, shell, start, until } from './process.ts';
import type { Scope } from './scope.ts';

const program = join(packageFolder, 'dist', 'test', 'support', 'scripted-nbd-main.js');

export class ForgetfulBackend {
  readonly target: string;
  readonly #scope: Scope;
  readonly #words: readonly string[];
  #running: Running | undefined;

  private constructor(scope: Scope, image: string, port: number, delayMs: number) {
    this.#scope = scope;
    this.target = `127.0.0.1:${port}`;
    const settings = ['--disk', image, '--port', String(port), '--delay-ms', String(delayMs)];
    this.#words = [process.execPath, program, ...settings];
  }

  /** On an empty disk; each request takes `delayMs`. */
  static async start(scope: Scope, mib: number, delayMs = 0): Promise<ForgetfulBackend> {
    const image = scope.path('forgetful');
    await shell(`truncate -s ${mib}M ${image}`);
    const backend = new ForgetfulBackend(scope, image, await freePort(), delayMs);
    await backend.restart();
    return backend;
  }

  async restart(): Promise<void> {
    const running = start(this.#scope, this.#words);
    this.#running = running;
    await until('the backend listens', () => running.stdout().startsWith('listening'));
  }

  async kill(): Promise<void> {
    assert(this.#running !== undefined);
    this.#running.kill('SIGKILL');
    await this.#running.exited;
  }
}
