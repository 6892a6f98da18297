/**
 * Owns: an nbdkit that takes its time, so that requests are in flight at every moment, that can be
 * killed and started again at its port, and whose own log shows what came twice.
 * Runs in: device test processes; nbdkit is a program beside them.
 * Must not: believe ublk-nbd's word on what was sent again.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
} from 'node:fs';
import { type ChildBackend, freePort, isRunning, type Site, startNbdkit } from './backends.ts';
import { must, until } from './process.ts';
import type { Scope } from './scope.ts';

/** Of the log, at either side of a failure: some hundred requests. */
const WINDOW_BYTES = 64 * 1024;
/** Of the 16 that nbdkit's threads can have. */
const AT_WORK = 8;

/** What nbdkit was at work on when a failure was about to be. */
export interface Mark {
  /** Which of nbdkit's processes it was. */
  readonly start: number;
  readonly endBytes: number;
  readonly connections: ReadonlySet<string>;
  readonly requests: ReadonlySet<string>;
}

interface LoggedLine {
  readonly connection: string;
  readonly id: string;
  /** Command, offset and length: what makes a request the same one again; undefined at its end. */
  readonly what: string | undefined;
}

export class SlowNbdkit {
  readonly #scope: Scope;
  readonly #image: string;
  readonly #port: number;
  readonly #site: Site | undefined;
  #starts = 0;
  /** Connections that had their mark. */
  #dead: ReadonlySet<string> = new Set();
  #running: ChildBackend | undefined;
  /** Of the last start. */
  #started: Promise<void> = Promise.resolve();

  private constructor(scope: Scope, image: string, port: number, site?: Site) {
    this.#scope = scope;
    this.#image = image;
    this.#port = port;
    this.#site = site;
  }

  /** On an empty file, which outlives it. */
  static async start(scope: Scope, mib: number, site?: Site): Promise<SlowNbdkit> {
    const port = await freePort();
    const image = scope.path(`slow-${port}`);
    await must(['truncate', '-s', `${mib}M`, image]);
    const backend = new SlowNbdkit(scope, image, port, site);
    await backend.restart();
    return backend;
  }

  get target(): string {
    assert(this.#running !== undefined, 'nbdkit runs');
    return this.#running.target;
  }

  restart(): Promise<void> {
    this.#started = this.#restart();
    return this.#started;
  }

  async #restart(): Promise<void> {
    this.#starts += 1;
    this.#dead = new Set();
    const filters = ['--filter=log', '--filter=delay'];
    const settings = ['rdelay=20ms', 'wdelay=20ms', `logfile=${this.#logFile(this.#starts)}`];
    const words = [...filters, 'file', this.#image, ...settings];
    const running = await startNbdkit(this.#scope, words, 'tcp', this.#port, this.#site);
    this.#running = running;
    this.#scope.defer(() => {
      this.goOn();
      this.#running = undefined;
    });
    // nbdkit 1.32 aborts now and then when a connection is reset while it answers (an assertion in
    // raw_send_socket). That is one more outage: it starts again, as under a service manager.
    void running.exited.then(() => {
      if (this.#running === running) return this.restart();
      return undefined;
    });
  }

  async kill(): Promise<void> {
    await this.#started;
    const running = this.#running;
    this.#running = undefined;
    if (running === undefined) return;
    if (isRunning(running.pid)) process.kill(running.pid, 'SIGKILL');
    await running.stop();
  }

  /** Whether requests are under way in nbdkit itself, by its log. */
  readonly isAtWork = (): boolean => this.#look().requests.size >= AT_WORK;

  /**
   * Right before a failure that ends every connection of the device. nbdkit stands still from here
   * on, so that what it is at work on is not answered before the failure comes; then kill() or
   * goOn().
   */
  async standStill(): Promise<Mark> {
    let mark: Mark | undefined;
    await until('nbdkit is at work on something', async () => {
      await this.pause();
      mark = this.#look();
      if (mark.requests.size === 0) this.goOn();
      return mark.requests.size > 0;
    });
    assert(mark !== undefined);
    this.#dead = mark.connections;
    return mark;
  }

  /** Nothing is answered from here on, until goOn() or kill(). It may have to start again first. */
  async pause(): Promise<void> {
    await until('nbdkit stands still', async () => {
      await this.#started;
      const pid = this.#running?.pid;
      if (pid === undefined || !isRunning(pid)) return false;
      process.kill(pid, 'SIGSTOP');
      return isStopped(pid);
    });
  }

  goOn(): void {
    const pid = this.#running?.pid;
    if (pid !== undefined && isRunning(pid)) process.kill(pid, 'SIGCONT');
  }

  #look(): Mark {
    const { text, endBytes } = this.#read(this.#starts, undefined);
    const connections = new Set<string>();
    const requests = new Map<string, string>();
    for (const { connection, id, what } of requestsIn(text)) {
      connections.add(connection);
      // What a dead connection had left may never be told to have ended.
      if (this.#dead.has(connection)) continue;
      if (what === undefined) requests.delete(`${connection} ${id}`);
      else requests.set(`${connection} ${id}`, what);
    }
    return { start: this.#starts, endBytes, connections, requests: new Set(requests.values()) };
  }

  /** Until the backend has seen requests on a connection that was not there at the mark again. */
  async untilSentAgain(mark: Mark): Promise<void> {
    const isAgain = ({ what }: LoggedLine): boolean =>
      what !== undefined && mark.requests.has(what);
    const isOther = ({ connection }: LoggedLine): boolean => !mark.connections.has(connection);
    await until("the same offsets come on another connection, by the backend's own log", () => {
      const rest = requestsIn(this.#read(mark.start, mark.endBytes).text).filter(isOther);
      const later = Array.from({ length: this.#starts - mark.start }, (_, n) =>
        requestsIn(this.#read(mark.start + 1 + n, 0).text),
      );
      return [...rest, ...later.flat()].some(isAgain);
    });
  }

  #logFile(start: number): string {
    return this.#scope.path(`requests-${start}.log`);
  }

  /** The log from a byte on, or its end. */
  #read(
    start: number,
    from: number | undefined,
  ): { readonly text: string; readonly endBytes: number } {
    const path = this.#logFile(start);
    if (!existsSync(path)) return { text: '', endBytes: 0 };
    const file = openSync(path, 'r');
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

/** Every thread of it; one that ends while we look is to be looked at again. */
function isStopped(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).every((tid) =>
      /\) T /.test(readFileSync(`/proc/${pid}/task/${tid}/stat`, 'utf8')),
    );
  } catch {
    return false;
  }
}

const LINE = / connection=(\d+) (?:\.\.\.)?(Read|Write) id=(\d+) (?:offset=(\w+) count=(\w+))?/g;

function requestsIn(text: string): LoggedLine[] {
  return [...text.matchAll(LINE)].map(([, connection = '', command, id = '', offset, count]) => ({
    connection,
    id,
    what: offset === undefined ? undefined : `${command} ${offset} ${count}`,
  }));
}
