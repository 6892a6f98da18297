/**
 * Owns: a Host without a kernel: a driver, nodes and server processes that only record what is
 * asked of them, and fail where a test says so.
 * Runs in: unit test processes.
 * Must not: know the order of the steps; tests say what they expect of it.
 */
import { connectDevice } from '../../src/gateway/connect.ts';
import type { Control } from '../../src/gateway/control.ts';
import type { Device } from '../../src/gateway/device.ts';
import type { DeviceNodes } from '../../src/gateway/device-node.ts';
import type { Host } from '../../src/gateway/host.ts';
import type { Ending, ServerProcess } from '../../src/gateway/launch.ts';
import type { ConnectOptions } from '../../src/gateway/messages.ts';
import { Registry } from '../../src/gateway/registry.ts';
import type { Peer } from '../../src/gateway/rpc.ts';
import { NO_SPARES } from '../../src/gateway/spare.ts';
import type { BackendInfo } from '../../src/protocols/adapter.ts';
import { GatewayError } from '../../src/protocols/errors.ts';

/** Of every server process. */
export const VERSION = '1.2.3';

export const backend: BackendInfo = {
  sizeBytes: 1n << 20n,
  readOnly: false,
  canFlush: true,
  canFua: true,
  canTrim: true,
  canWriteZeroes: true,
  canFastZero: false,
  canMultiConn: true,
  rotational: false,
  minimumBlockBytes: 1,
  preferredBlockBytes: 4096,
  maximumBlockBytes: 0xffffffff,
};

export function optionsFor(more: Partial<ConnectOptions> = {}): ConnectOptions {
  return {
    target: { kind: 'null', sizeBytes: 1n << 20n, text: 'null:1M' },
    readOnly: false,
    partitionScan: true,
    dataPath: 'copy',
    handshakeTimeoutMs: 1_000,
    ...more,
  };
}

export interface FakeHost extends Host {
  /** What was asked for, in order: `add 0`, `peer open`, `kill`, ... */
  readonly calls: string[];
  /** What was told, `kind id: text`. */
  readonly events: string[];
  /** Devices in the driver. */
  readonly driver: Set<number>;
  readonly registry: Registry;
  /** Ends the server process that was launched last. */
  endServerProcess(how: string): void;
}

export interface Faults {
  /** The call that fails, as it stands in `calls`. */
  readonly failing?: string;
  /** The call that never comes back. */
  readonly hanging?: string;
  /** Called at each call, before it fails or hangs. */
  readonly onCall?: (call: string) => void;
  /** What GET_FEATURES answers; by default everything. */
  readonly features?: bigint;
  /** What the driver says of every device; by default LIVE. */
  readonly state?: () => string;
  /** What the backend offers; it may throw. */
  readonly backend?: () => BackendInfo;
  /** Ids that ADD_DEV finds taken though nothing shows them. */
  readonly taken?: readonly number[];
}

export function fakeHost(folder: string, faults: Faults = {}): FakeHost {
  const calls: string[] = [];
  const driver = new Set<number>();
  const call = async <T>(name: string, value: T): Promise<T> => {
    calls.push(name);
    faults.onCall?.(name);
    if (faults.hanging === name) await new Promise(() => undefined);
    if (faults.failing === name) throw new GatewayError('UNBD_CONTROL_FAILED', `${name} failed`);
    return value;
  };
  const end: { current?: (how: string) => void } = {};
  const events: string[] = [];
  const host: FakeHost = {
    calls,
    events,
    driver,
    control: fakeControl(call, driver, faults),
    registry: new Registry(folder),
    nodes: fakeNodes(call, calls),
    launch: () => {
      calls.push('launch');
      return fakeServerProcess(calls, end);
    },
    arrivals: {
      expect: () => call('arrival', fakePeer(call, end, faults.backend ?? (() => backend))),
      forget: () => undefined,
    },
    spares: NO_SPARES,
    owner: { pid: process.pid, startTicks: '1', foreground: false },
    socketPath: '/none',
    processors: 2,
    devices: new Map<number, Device>(),
    driverIds: () => driver,
    nowMs: () => 1,
    tell: (kind, id, text) => void events.push(`${kind} ${id}: ${text}`),
    subscribe: () => () => undefined,
    log: () => undefined,
    endServerProcess: (how) => end.current?.(how),
  };
  return host;
}

type Call = <T>(name: string, value: T) => Promise<T>;

function fakeControl(call: Call, driver: Set<number>, faults: Faults): Control {
  const taken = faults.taken ?? [];
  return {
    features: () => call('features', faults.features ?? 0xfffffn),
    add: async (request) => {
      const { id, flags, queueCount, depth, maxIoBytes } = request;
      await call(`add ${id}`, null);
      if (taken.includes(id) || driver.has(id)) return 'exists';
      driver.add(id);
      return { flags, queueCount, depth, maxIoBytes };
    },
    start: (id) => call(`start ${id}`, undefined),
    recoverStart: (id) => call(`recover_start ${id}`, undefined),
    recoverEnd: (id) => call(`recover_end ${id}`, undefined),
    tune: (id, short) => call(`tune ${id}${short ? ' short' : ''}`, undefined),
    updateSize: (id, sizeBytes) => call(`resize ${id} ${sizeBytes}`, undefined),
    stop: (id) => call(`stop ${id}`, undefined),
    disconnect: (id) => call(`disconnect ${id}`, 'stopped' as const),
    forceDisconnect: (id) => call(`disconnect ${id} force`, undefined),
    del: async (id) => {
      await call(`del ${id}`, null);
      driver.delete(id);
    },
    delAsync: async (id) => {
      await call(`del_async ${id}`, null);
      driver.delete(id);
    },
    info: (id) => {
      const state = faults.state?.() ?? 'LIVE';
      return call(`info ${id}`, driver.has(id) ? { state, serverPid: 1 } : undefined);
    },
  };
}

function fakeNodes(call: Call, calls: string[]): DeviceNodes {
  return {
    ensureChar: (id) => call(`char ${id}`, [`/dev/ublkc${id}`]),
    ensureBlock: (id) => call(`block ${id}`, [`/dev/ublkb${id}`]),
    scanPartitions: (id) => call(`scan ${id}`, undefined),
    prove: (id) => call(`prove ${id}`, undefined),
    remove: async (paths) => {
      if (paths.length > 0) calls.push(`remove ${paths.join(' ')}`);
    },
    makeLink: (name) => call(`link ${name}`, undefined),
    removeLink: (name) => call(`unlink ${name}`, undefined),
    findHolders: () => ({ users: '', hasHelper: false }),
  };
}

function fakePeer(
  call: Call,
  end: { current?: (how: string) => void },
  offered: () => BackendInfo,
): Peer {
  const details = { version: VERSION };
  const peer = {
    isClosed: false,
    remote: { hello: 'ublk-nbd', version: 1, role: 'server-process', pid: process.pid, details },
    close: () => undefined,
    event: (name: string) => void call(`peer event ${name}`, undefined),
    async request(name: string): Promise<unknown> {
      await call(`peer ${name}`, null);
      if (name === 'shutdown') end.current?.('exited with status 0');
      if (name === 'open') return { backend: offered(), connections: undefined };
      return name === 'selfTest' ? {} : null;
    },
  };
  return peer as unknown as Peer;
}

function fakeServerProcess(
  calls: string[],
  end: { current?: (how: string) => void },
): ServerProcess {
  let alive = true;
  let tell: (ending: Ending) => void = () => undefined;
  const ended = new Promise<Ending>((resolve) => {
    tell = resolve;
  });
  const finish = (how: string): void => {
    alive = false;
    tell({ how, isCrash: !/SIGKILL|status 0/.test(how) });
  };
  end.current = finish;
  return {
    identity: { pid: process.pid, startTicks: '1' },
    ended,
    kill: () => {
      calls.push('kill');
      finish('was killed by SIGKILL');
    },
    waitForExit: async () => !alive,
  };
}

/** A host with one device that is CONNECTED; what that took is not among its calls. */
export async function connectedDevice(
  folder: string,
  faults: Faults = {},
  options: Partial<ConnectOptions> = {},
): Promise<{ readonly host: FakeHost; readonly device: Device }> {
  const host = fakeHost(folder, faults);
  const { signal } = new AbortController();
  const context = { signal, progress: () => undefined };
  const device = await connectDevice(host, optionsFor(options), context);
  host.calls.length = 0;
  return { host, device };
}
