/**
 * Owns: one device's data path: its backend and its queues, driven by the controller's requests.
 * Runs in: the server process, on the JS main thread; I/O runs in the addon's threads.
 * Must not: issue control commands of the driver (STOP in the process that owns I/O can never be
 * killed), or go on after a failed invariant.
 */
import { GatewayError } from '../protocols/errors.ts';
import { alone, type OpenBackend, openBackend, type Serving, serveAgain } from './backend.ts';
import { errnoName } from './dial.ts';
import { type LogLevel, log } from './log.ts';
import { type Addon, loadAddon, type Queues, type QueuesEvent } from './native.ts';
import { hasIdentityGate } from './recovery-policy.ts';
import type { DeviceRecord } from './registry.ts';
import { selfTest } from './self-test.ts';
import type {
  BackendEvent,
  OpenAnswer,
  OpenArgument,
  SelfTestArgument,
  ServerApi,
  StartArgument,
} from './server-messages.ts';

/** What a server process tells its controller. */
export interface ServerNews {
  queues(event: QueuesEvent): void;
  backend(event: BackendEvent): void;
}

/** Of a device that may grow; what off_t holds, in whole pages. */
const MAXIMUM_SIZE_BYTES = 2n ** 63n - 4096n;

const LEVELS = {
  'backend-lost': 'warning',
  'protocol-violation': 'error',
  'hold-expired': 'error',
  resumed: 'info',
  warning: 'warning',
  stopped: 'info',
} as const satisfies Record<QueuesEvent['kind'], LogLevel>;

/** Longer than a controller waits before it ends a quiesced process. */
const QUIESCE_LIMIT_MS = 10_000;

export class Server {
  readonly #news: ServerNews;
  readonly #exit: () => void;
  readonly #addon: Addon;
  #backend: OpenBackend | undefined;
  #queues: Queues | undefined;
  #serving: Serving | undefined;
  #record: DeviceRecord | undefined;
  #trouble: BackendEvent | undefined;
  #quiesceTimer: NodeJS.Timeout | undefined;
  #grown: BackendEvent['grown'];
  /** What the queues have told before all of them served; undefined: they do. */
  #early: QueuesEvent[] | undefined = [];

  /** `exit` ends the process after what was answered is sent. */
  constructor(news: ServerNews, exit: () => void, addon = loadAddon()) {
    this.#news = news;
    this.#exit = exit;
    this.#addon = addon;
  }

  /** What is served since `start`. */
  get record(): DeviceRecord | undefined {
    return this.#record;
  }

  /** What is not as it was made with the backend, for a controller that was not there. */
  get trouble(): BackendEvent | undefined {
    const news = this.#trouble ?? { state: 'CONNECTED', text: '' };
    return this.#trouble === undefined && this.#grown === undefined
      ? undefined
      : { ...news, grown: this.#grown };
  }

  /** `progress` is told how far it is, where that takes long. */
  async handle(
    name: string,
    argument: unknown,
    progress: (text: string) => void = () => undefined,
  ): Promise<unknown> {
    switch (name as keyof ServerApi) {
      case 'open':
        return this.#open(argument as OpenArgument, progress);
      case 'start':
        return this.#start(argument as StartArgument);
      case 'ping':
        return null;
      case 'selfTest':
        return selfTest(this.#addon, argument as SelfTestArgument);
      case 'stats':
        return { ...this.#running().stats(), ...this.#serving?.counters?.() };
      case 'unflushed':
        return this.#serving?.unflushed() ?? null;
      case 'failAll':
        this.#serving?.end();
        this.#queues?.failAll();
        return null;
      case 'quiesce':
        return this.#quiesce();
      case 'unquiesce':
        this.#queues?.unquiesce();
        return null;
      case 'shutdown':
        setImmediate(this.#exit);
        return null;
      default:
        throw new GatewayError('UNBD_VERSION', `unknown request '${name}'`);
    }
  }

  async #open(
    { options, processors }: OpenArgument,
    progress: (text: string) => void,
  ): Promise<OpenAnswer> {
    if (this.#backend !== undefined) throw new GatewayError('UNBD_INTERNAL', 'opened twice');
    process.title = 'ublk-nbd: server process';
    const backend = await openBackend(this.#addon, options, processors, progress);
    this.#backend = backend;
    if (backend.shortfall !== undefined) {
      const count = backend.connections;
      log(
        'warning',
        undefined,
        `${options.target.text}: ${count} connection; ${backend.shortfall}`,
      );
    }
    const { info, connections, fingerprint, identity } = backend;
    return {
      backend: info,
      connections,
      ...(fingerprint === undefined ? {} : { fingerprint }),
      ...(identity === undefined ? {} : { identity }),
    };
  }

  async #start(argument: StartArgument): Promise<null> {
    if (this.#queues !== undefined) throw outOfOrder();
    const { suppressPartitionScan, record, recovery: _, failing: _f, ...shape } = argument;
    const serving = await this.#serve(argument);
    // The kernel checks requests against the size that the disk has.
    const sizeBytes = record.options.resize === true ? MAXIMUM_SIZE_BYTES : argument.sizeBytes;
    this.#serving = serving;
    process.title = `ublk-nbd: server process of ublkb${argument.devId}`;
    try {
      this.#queues = new this.#addon.Queues(
        { ...shape, sizeBytes, noPartitionScan: suppressPartitionScan, adapter: serving.adapter },
        (event) => {
          if (this.#early === undefined) this.#told(event);
          else this.#early.push(event);
        },
      );
      await this.#queues.start();
    } catch (error) {
      this.#serving = undefined;
      this.#hear();
      throw queuesError(error);
    }
    this.#record = record;
    serving.started(this.#queues);
    // After the answer, which makes them news of a device.
    setImmediate(() => this.#hear());
    return null;
  }

  async #quiesce(): Promise<null> {
    const queues = this.#running();
    // Whoever asked may be gone by then, and nobody else would end it.
    clearTimeout(this.#quiesceTimer);
    this.#quiesceTimer = setTimeout(() => queues.unquiesce(), QUIESCE_LIMIT_MS);
    if (await queues.quiesce()) return null;
    throw new GatewayError('UNBD_SERVER_PROCESS', 'requests were still in flight');
  }

  async #serve(argument: StartArgument): Promise<Serving> {
    const { failing, recovery, record } = argument;
    if (failing) return alone({ kind: 'error' });
    const told = (event: BackendEvent): void => this.#backendTold(event);
    const { target } = record.options;
    if (recovery && hasIdentityGate(target)) {
      return serveAgain(this.#addon, target, argument, told);
    }
    if (this.#backend === undefined) throw outOfOrder();
    return this.#backend.serve(argument, told);
  }

  #backendTold(event: BackendEvent): void {
    this.#grown = event.grown ?? this.#grown;
    this.#trouble = event.state === 'CONNECTED' ? undefined : event;
    this.#news.backend(event);
  }

  /** The queues' threads do not wait: one can lose its backend while others are being started. */
  #hear(): void {
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const event of early) this.#told(event);
  }

  #told(event: QueuesEvent): void {
    const { kind, queue, text } = event;
    log(LEVELS[kind], this.#record?.id, `queue ${queue}: ${kind}${text === '' ? '' : `: ${text}`}`);
    this.#serving?.queuesTold(event);
    this.#news.queues(event);
    if (kind === 'stopped') this.#exit();
  }

  #running(): Queues {
    if (this.#queues !== undefined) return this.#queues;
    throw new GatewayError('UNBD_SERVER_PROCESS', 'the queues have not been started');
  }
}

function outOfOrder(): GatewayError {
  return new GatewayError('UNBD_INTERNAL', 'started out of order');
}

function queuesError(cause: unknown): GatewayError {
  const code = errnoName(cause);
  const text = cause instanceof Error ? cause.message : String(cause);
  if (code === 'ENOSYS' || (code === 'EPERM' && text.includes('io_uring'))) {
    return new GatewayError('UNBD_IO_URING_DISABLED', 'io_uring is disabled here', {
      hint: 'run: sysctl kernel.io_uring_disabled=0; in a container allow io_uring in its seccomp',
      cause,
    });
  }
  return new GatewayError('UNBD_SERVER_PROCESS', `the queues did not start: ${text}`, {
    hint: 'see: ublk-nbd doctor',
    cause,
  });
}
