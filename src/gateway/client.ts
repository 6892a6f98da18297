/**
 * Owns: the CLI's way to the controller: find it, start it where there is none, ask it.
 * Runs in: the CLI, and in `connect --foreground` and the controller when they ask another owner of
 * devices.
 * Must not: decide anything about devices, print, or wait without a bound.
 */
import { createConnection, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import { type ControllerApi, DEVICE_EVENT, type DeviceEvent } from './messages.ts';
import { Peer } from './rpc.ts';
import { controllerSocket, prepareRunDir, requireRoot } from './run-dir.ts';
import { startController } from './start-controller.ts';

/** Node starts slowly under an emulated processor; a start that failed is known at once. */
const START_TIMEOUT_MS = 60_000;
const START_POLL_MS = 20;
const HELLO_TIMEOUT_MS = 5_000;
const UNDO_TIMEOUT_MS = 30_000;

export interface CallOptions {
  /** Aborted: the controller undoes what it did, and the call rejects with UNBD_INTERRUPTED. */
  readonly signal?: AbortSignal;
  /** What the controller is doing right now, one line. */
  readonly onProgress?: ((text: string) => void) | undefined;
}

export type ControllerCall = <Name extends keyof ControllerApi>(
  name: Name,
  argument: ControllerApi[Name]['argument'],
  options?: CallOptions,
) => Promise<ControllerApi[Name]['answer']>;

/** One request to the controller, which is started when it does not run. Root only. */
export function callController<Name extends keyof ControllerApi>(
  name: Name,
  argument: ControllerApi[Name]['argument'],
  options: CallOptions = {},
): Promise<ControllerApi[Name]['answer']> {
  return withController((call) => call(name, argument, options), options.signal);
}

/**
 * Gives `use` a connection to the controller, started when it does not run, and closes it after.
 */
export async function withController<T>(
  use: (call: ControllerCall) => Promise<T>,
  signal?: AbortSignal,
  onEvent?: (event: DeviceEvent) => void,
): Promise<T> {
  requireRoot();
  prepareRunDir();
  const peer = await reachController(signal, onEvent);
  try {
    return await use(callOver(peer));
  } finally {
    peer.close();
  }
}

/** The calls of ControllerApi over a connection that is there. */
export function callOver(peer: Peer): ControllerCall {
  return async (name, argument, options = {}) => {
    const { signal, onProgress } = options;
    const answer = await peer.request(name, argument, { signal, onProgress });
    if (name === 'connect' && signal?.aborted) await takeBack(peer, answer);
    return answer as ControllerApi[typeof name]['answer'];
  };
}

/** The device was ready before the controller saw the interruption. */
async function takeBack(peer: Peer, answer: unknown): Promise<never> {
  const { id } = answer as ControllerApi['connect']['answer'];
  const argument = { device: String(id), force: true };
  await peer.request('disconnect', argument, { timeoutMs: UNDO_TIMEOUT_MS });
  throw new GatewayError('UNBD_INTERRUPTED', 'interrupted');
}

/**
 * A peer at `path`, or undefined where nothing listens. Rejects when what listens does not answer.
 */
export async function openPeer(
  path: string,
  onEvent: (event: DeviceEvent) => void = () => undefined,
): Promise<Peer | undefined> {
  const socket = await connectSocket(path);
  if (socket === undefined) return undefined;
  return Peer.open(socket, {
    role: 'cli',
    helloTimeoutMs: HELLO_TIMEOUT_MS,
    otherSide: 'the controller',
    closedCode: 'UNBD_CONTROLLER',
    onEvent: (name, argument) => {
      if (name === DEVICE_EVENT) onEvent(argument as DeviceEvent);
    },
  });
}

async function reachController(
  signal?: AbortSignal,
  onEvent?: (event: DeviceEvent) => void,
): Promise<Peer> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  let failure: GatewayError | undefined;
  let started = false;
  for (;;) {
    if (signal?.aborted) throw new GatewayError('UNBD_INTERRUPTED', 'interrupted');
    try {
      const peer = await openPeer(controllerSocket(), onEvent);
      if (peer !== undefined) return peer;
    } catch (error) {
      // A controller that ends because nothing is left to do closes the connection; the next try
      // starts another.
      const last = asGatewayError(error);
      if (last.code === 'UNBD_VERSION' || Date.now() >= deadline) throw last;
    }
    if (failure !== undefined) throw failure;
    if (Date.now() >= deadline) throw notStarted();
    if (!started) {
      started = true;
      void startController().then((error) => {
        failure = error;
        // It ended well, so another one is there, or it was idle before we came: look, else again.
        started = false;
      });
    }
    await delay(START_POLL_MS);
  }
}

function notStarted(): GatewayError {
  const text = `the controller did not start within ${START_TIMEOUT_MS} ms`;
  return new GatewayError('UNBD_CONTROLLER', text, {
    hint: 'see: ublk-nbd logs, or run it in the foreground: ublk-nbd daemon --foreground',
  });
}

function connectSocket(path: string): Promise<Socket | undefined> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path });
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(undefined);
      else reject(new GatewayError('UNBD_CONTROLLER', `cannot connect to ${path}: ${error.code}`));
    });
  });
}
