/**
 * Owns: what a server process does about a controller that is gone: whether it starts another one,
 * and when.
 * Runs in: server processes that serve a device.
 * Must not: bring back a controller that ended on purpose or that a service manager keeps, nor
 * start one while another process does.
 */
import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { asGatewayError } from '../protocols/errors.ts';
import { lock } from './lock.ts';
import { upgradeLock } from './run-dir.ts';
import type { ControllerHello } from './server-messages.ts';
import { startController } from './start-controller.ts';

/** A command that comes at once starts one itself, and so does the next step of an upgrade. */
const PATIENCE_MS = 3_000;
/** So that of many server processes one is first. */
const SPREAD_MS = 3_000;
/** How long one that was started may take to listen. */
const START_MS = 5_000;
const AGAIN_MS = 30_000;

export interface Surroundings {
  /** Undefined while another process starts or upgrades the controller. */
  lock(): (() => void) | undefined;
  start(): Promise<unknown>;
  now(): number;
  log(text: string): void;
}

export class MissingController {
  readonly #surroundings: Surroundings;
  readonly #patienceMs = PATIENCE_MS + randomInt(SPREAD_MS);
  #mayReplace = false;
  #startAtMs: number | undefined;

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
  }

  /** It is there; `details` of its hello. */
  met(details: unknown): void {
    this.#mayReplace = (details as Partial<ControllerHello> | undefined)?.onDemand === true;
    this.#startAtMs = undefined;
  }

  /** It ends on purpose. */
  saidGoodbye(): void {
    this.#mayReplace = false;
  }

  /** Nobody answers at its socket; to be told after every try. */
  missed(): void {
    if (!this.#mayReplace) return;
    const nowMs = this.#surroundings.now();
    this.#startAtMs ??= nowMs + this.#patienceMs;
    if (nowMs < this.#startAtMs) return;
    this.#startAtMs = nowMs + AGAIN_MS;
    void this.#start().catch((error) => this.#failed(error));
  }

  async #start(): Promise<void> {
    const release = this.#surroundings.lock();
    if (release === undefined) return;
    this.#surroundings.log('the controller is gone; another one is started');
    try {
      const failed = this.#surroundings.start().then((error) => {
        if (error !== undefined) this.#failed(error);
      });
      await Promise.race([failed, delay(START_MS, undefined, { ref: false })]);
    } finally {
      release();
    }
  }

  #failed(error: unknown): void {
    this.#surroundings.log(`no other controller could be started: ${asGatewayError(error).line}`);
  }
}

export function controllerWatch(log: (text: string) => void): MissingController {
  return new MissingController({
    lock: () => lock(upgradeLock()),
    start: () => startController('server-process'),
    now: () => performance.now(),
    log,
  });
}
