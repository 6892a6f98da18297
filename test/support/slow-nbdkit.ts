/**
 * Owns: an nbdkit that takes its time, so that requests are in flight at every moment, that can be
 * killed and started again at its port, and whose own log shows what came twice.
 * Runs in: device test processes; nbdkit is a program beside them.
 * Must not: believe ublk-nbd's word on what was sent again.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { type Backend, freePort, startNbdkit } from './backends.ts';
import { until } from './process.ts';
import type { Scope } from './scope.ts';

/** Of the log, at either side of a failure: some thousand requests. */
const WINDOW_BYTES = 256 * 1024;
/** What was in flight is among the last requests that came; fio has 32 at a time. */
const LAST_REQUESTS = 64;

/** The requests that had come when a failure was about to be. */
export interface Mark {
  readonly file: string;
  readonly endBytes: number;
  readonly connections: ReadonlySet<string>;
  readonly requests: ReadonlySet<string>;
}

interface LoggedRequest {
  readonly connection: string;
  /** Command, offset and length: what makes a request the same one again. */
  readonly what: string;
}

export class SlowNbdkit {
  readonly #scope: Scope;
  readonly #plugin: readonly string[];
  readonly #port: number;
  readonly #address: string;
  #starts = 0;
  #running: Backend | undefined;

  private constructor(scope: Scope, plugin: readonly string[], port: number, address: string) {
    this.#scope = scope;
    this.#plugin = plugin;
    this.#port = port;
    this.#address = address;
  }

  /** `plugin` and its parameters; what it holds has to outlive it where it is killed. */
  static async start(scope: Scope, plugin: readonly string[]): Promise<SlowNbdkit> {
    const backend = new SlowNbdkit(scope, plugin, await freePort(), '127.0.0.1');
    await backend.restart();
    return backend;
  }

  get target(): string {
    return `${this.#address}:${this.#port}`;
  }

  get port(): number {
    return this.#port;
  }

  async restart(): Promise<void> {
    this.#starts += 1;
    const filters = ['--filter=log', '--filter=delay'];
    const settings = ['rdelay=20ms', 'wdelay=20ms', `logfile=${this.#logFile}`];
    const words = [...filters, ...this.#plugin, ...settings];
    this.#running = await startNbdkit(this.#scope, words, 'tcp', this.#port);
  }

  async kill(): Promise<void> {
    if (this.#running === undefined) return;
    process.kill(this.#running.pid, 'SIGKILL');
    await this.#running.stop();
    this.#running = undefined;
  }

  mark(): Mark {
    const { text, endBytes } = this.#read(undefined);
    const all = requestsIn(text);
    return {
      file: this.#logFile,
      endBytes,
      connections: new Set(all.map(({ connection }) => connection)),
      requests: new Set(all.slice(-LAST_REQUESTS).map(({ what }) => what)),
    };
  }

  /** Until the backend has seen requests on a connection that was not there at the mark again. */
  async untilSentAgain(mark: Mark): Promise<void> {
    await until("the same offsets come on another connection, by the backend's own log", () => {
      const isSameProcess = mark.file === this.#logFile;
      const { text } = this.#read(isSameProcess ? mark.endBytes : 0);
      return requestsIn(text).some(
        ({ connection, what }) =>
          mark.requests.has(what) && !(isSameProcess && mark.connections.has(connection)),
      );
    });
  }

  get #logFile(): string {
    return this.#scope.path(`requests-${this.#starts}.log`);
  }

  /** The log from a byte on, or its end. */
  #read(from: number | undefined): { readonly text: string; readonly endBytes: number } {
    const file = openSync(this.#logFile, 'r');
    try {
      const endBytes = fstatSync(file).size;
      const bytes = Buffer.alloc(WINDOW_BYTES);
      const at = from ?? Math.max(0, endBytes - WINDOW_BYTES);
      const count = readSync(file, bytes, 0, WINDOW_BYTES, at);
      return { text: bytes.toString('latin1', 0, count), endBytes };
    } finally {
      closeSync(file);
    }
  }
}

function requestsIn(text: string): LoggedRequest[] {
  const lines = text.matchAll(
    / connection=(\d+) (Read|Write) id=\d+ offset=(\w+) count=(\w+).*\n/g,
  );
  return [...lines].map(([, connection = '', command, offset, count]) => ({
    connection,
    what: `${command} ${offset} ${count}`,
  }));
}
