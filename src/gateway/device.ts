/**
 * Owns: one device while this process owns it: its record, its server process, its state; one
 * operation at a time.
 * Runs in: the controller and `connect --foreground`.
 * Must not: serve I/O, or tell a state that its server process and the driver do not have.
 */

import { blockPath } from './device-name.ts';
import type { Host } from './host.ts';
import type { Ending, ServerProcess } from './launch.ts';
import type { DeviceState, DeviceView } from './messages.ts';
import type { QueuesEvent } from './native.ts';
import { crashesWith } from './recovery-policy.ts';
import type { DeviceRecord } from './registry.ts';
import type { Peer } from './rpc.ts';
import type { BackendEvent, ServerApi } from './server-messages.ts';

const STATS_TIMEOUT_MS = 1_000;
const REJOIN_TIMEOUT_MS = 2_500;

const SERVED: readonly DeviceState[] = ['CONNECTED', 'HOLDING', 'FAILING', 'FATAL'];
const EVENT_OF = { HOLDING: 'holding', FAILING: 'failing', FATAL: 'fatal' } as const;

/** Whether a server process has the device's requests; which state it is, the backend decides. */
export function isServed(state: DeviceState): boolean {
  return SERVED.includes(state);
}

export class Device {
  readonly #host: Host;
  #record: DeviceRecord;
  #state: DeviceState;
  #peer: Peer | undefined;
  #serverProcess: ServerProcess | undefined;
  #earlyTrouble: QueuesEvent | undefined;
  #backend: BackendEvent | undefined;
  readonly #ending = new AbortController();
  #onPeer: () => void = () => undefined;
  #tail: Promise<unknown> = Promise.resolve();
  #operations = 0;

  constructor(host: Host, record: DeviceRecord, state: DeviceState) {
    this.#host = host;
    this.#record = record;
    this.#state = state;
  }

  get id(): number {
    return this.#record.id;
  }

  get record(): DeviceRecord {
    return this.#record;
  }

  get state(): DeviceState {
    return this.#state;
  }

  get serverProcess(): ServerProcess | undefined {
    return this.#serverProcess;
  }

  /** The connection to its server process; undefined while there is none. */
  get peer(): Peer | undefined {
    return this.#peer?.isClosed === true ? undefined : this.#peer;
  }

  /** Runs after every operation on this device that was asked for before. */
  exclusive<T>(operation: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(operation);
    this.#operations += 1;
    this.#tail = result
      .catch(() => undefined)
      .then(() => {
        this.#operations -= 1;
      });
    return result;
  }

  /** An operation goes on, or waits for its turn. */
  get isBusy(): boolean {
    return this.#operations > 0;
  }

  attachPeer(peer: Peer): void {
    this.#peer?.close();
    this.#backend = undefined;
    this.#peer = peer;
    this.#onPeer();
  }

  /** `onEnd` is told once, with how it ended, whatever the state is then. */
  attachServerProcess(serverProcess: ServerProcess, onEnd: (ending: Ending) => void): void {
    this.#serverProcess = serverProcess;
    void serverProcess.ended.then((ending) => {
      if (this.#serverProcess !== serverProcess) return;
      this.#peer?.close();
      if (ending.isCrash && this.#host.devices.get(this.id) === this) {
        const crashesAtMs = crashesWith(this.#record.crashesAtMs ?? [], this.#host.nowMs());
        this.update({ crashesAtMs });
      }
      onEnd(ending);
    });
  }

  /** Aborted when the device is to be taken away whatever is being tried for it. */
  get ending(): AbortSignal {
    return this.#ending.signal;
  }

  giveUp(): void {
    this.#ending.abort();
  }

  setState(state: DeviceState, reason?: string): void {
    this.#state = state;
    const { reason: _, ...rest } = this.#record;
    this.#record = reason === undefined ? rest : { ...rest, reason };
  }

  /** Changes the record, here and in the registry. */
  update(change: Partial<DeviceRecord>): void {
    this.#record = { ...this.#record, ...change };
    this.#host.registry.update(this.#record);
  }

  /** The driver had the id: the record moves to another one, that is claimed. */
  moveTo(record: DeviceRecord): void {
    this.#record = record;
  }

  /** What went wrong with the backend before the device was CONNECTED. */
  get earlyTrouble(): QueuesEvent | undefined {
    return this.#earlyTrouble;
  }

  queuesTold(event: QueuesEvent): void {
    const isLoss = event.kind === 'backend-lost' || event.kind === 'protocol-violation';
    if (!isLoss || this.#state !== 'CONNECTING') return;
    this.#earlyTrouble ??= event;
    // START waits for requests that wait for the backend, and the device will not come to be.
    this.peer?.request('failAll', null, { timeoutMs: STATS_TIMEOUT_MS }).catch(() => undefined);
  }

  /** How it stands with the backend; what counts is the last word of the server process. */
  backendTold(event: BackendEvent): void {
    this.#backend = event;
    if (!isServed(this.#state)) return;
    const before = this.#state;
    this.#followBackend();
    if (event.lost !== undefined) {
      this.#host.tell('lost', this.id, `${event.text}; ${event.lost.requests} requests in flight`);
    }
    if (before === this.#state) return;
    const kind = event.state === 'CONNECTED' ? 'replayed' : EVENT_OF[event.state];
    this.#host.tell(kind, this.id, event.text);
  }

  /** As far as the server process has said; one that has said nothing is well. */
  get backendEvent(): BackendEvent {
    return this.#backend ?? { state: 'CONNECTED', text: '' };
  }

  /** What was to be its end is taken back; the backend may be another matter by now. */
  goOn(state: DeviceState, reason: string | undefined): void {
    this.setState(state, reason);
    if (isServed(state) && this.#backend !== undefined) this.#followBackend();
  }

  /** A successor serves; it may already have said more. */
  serveAgain(): void {
    this.setState('CONNECTED');
    if (this.#backend !== undefined) this.#followBackend();
  }

  #followBackend(): void {
    const { state = 'CONNECTED', text } = this.#backend ?? {};
    this.setState(state, state === 'CONNECTED' ? undefined : text);
  }

  async view(verbose: boolean): Promise<DeviceView> {
    return viewOf(this.#record, this.#state, verbose ? await this.#counters() : undefined);
  }

  async #counters(): Promise<Readonly<Record<string, bigint | number>>> {
    const peer = await this.comingPeer();
    try {
      const options = { timeoutMs: STATS_TIMEOUT_MS };
      const stats = (await peer?.request('stats', null, options)) as
        | ServerApi['stats']['answer']
        | undefined;
      return { ...stats };
    } catch {
      return {};
    }
  }

  /** The server process of an adopted device looks for its controller every two seconds at most. */
  async comingPeer(): Promise<Peer | undefined> {
    if (this.peer === undefined && this.#state !== 'DEAD') await this.#peerComes();
    return this.peer;
  }

  #peerComes(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, REJOIN_TIMEOUT_MS);
      this.#onPeer = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** A device as `list` shows it. With `counters`, in full. */
export function viewOf(
  record: DeviceRecord,
  state: DeviceState,
  counters: Readonly<Record<string, bigint | number>> | undefined,
): DeviceView {
  const { id, options, shape, backend, reason } = record;
  const full = counters !== undefined && shape !== undefined && backend !== undefined;
  return {
    id,
    path: blockPath(id),
    ...(options.name === undefined ? {} : { name: options.name }),
    target: options.target.text,
    state,
    sizeBytes: shape?.sizeBytes ?? 0n,
    readOnly: shape?.readOnly ?? options.readOnly,
    queues: shape?.queues ?? 0,
    depth: shape?.depth ?? 0,
    logicalBlockBytes: shape?.logicalBlockBytes ?? 0,
    serverPid: record.serverProcess?.pid ?? 0,
    ...(record.serverVersion === undefined ? {} : { serverVersion: record.serverVersion }),
    connectedAtMs: record.connectedAtMs,
    ...(reason === undefined ? {} : { reason }),
    ...(full
      ? {
          details: {
            backend,
            dataPath: options.dataPath,
            maxIoBytes: shape.maxIoBytes,
            counters,
          },
        }
      : {}),
  };
}
