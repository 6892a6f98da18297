/**
 * Owns: the life of a server process: the way to its controller, again and again, and its end.
 * Runs in: the server process, on the JS main thread; started through the native launcher.
 * Must not: end while its queues serve and only the controller is gone; live on after an exception.
 */
import { createConnection } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { asGatewayError } from '../protocols/errors.ts';
import { log, logToStdout } from './log.ts';
import { controllerWatch } from './missing-controller.ts';
import type { QueuesEvent } from './native.ts';
import { Peer } from './rpc.ts';
import { controllerSocket } from './run-dir.ts';
import { Server } from './server.ts';
import {
  BACKEND_EVENT,
  type BackendEvent,
  GOODBYE_EVENT,
  QUEUES_EVENT,
  type ServerHello,
} from './server-messages.ts';
import { PACKAGE_VERSION } from './version.ts';

const HELLO_TIMEOUT_MS = 10_000;
const FIRST_RETRY_MS = 200;
const LAST_RETRY_MS = 2_000;

const {
  UBLK_NBD_SERVER_TOKEN: token,
  UBLK_NBD_SERVER_SOCKET: path,
  UBLK_NBD_SERVER_SPARE: spare,
} = process.env;
/** Nobody misses it without a controller. */
const isSpare = spare !== undefined;

let peer: Peer | undefined;
let ending = false;
const missing = controllerWatch((text) => log('warning', server.record?.id, text));

const server = makeServer();

/** What is wrong with the addon is for the one who started us. */
function makeServer(): Server {
  const news = {
    queues: (event: QueuesEvent) => peer?.event(QUEUES_EVENT, event),
    backend: (event: BackendEvent) => peer?.event(BACKEND_EVENT, event),
  };
  try {
    return new Server(news, end);
  } catch (error) {
    process.stderr.write(`${asGatewayError(error).message}\n`);
    process.exit(1);
  }
}

/** Lets answers and events that are written reach the socket, then ends. */
function end(): void {
  if (ending) return;
  ending = true;
  setImmediate(() => process.exit(0));
}

async function open(path: string, token: string): Promise<Peer> {
  const socket = createConnection({ path });
  await new Promise((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  const details: ServerHello = { token, version: PACKAGE_VERSION, record: server.record };
  return Peer.open(socket, {
    role: 'server-process',
    details,
    helloTimeoutMs: HELLO_TIMEOUT_MS,
    otherSide: 'the controller',
    closedCode: 'UNBD_CONTROLLER',
    onRequest: (name, argument, { progress }) => server.handle(name, argument, progress),
    onEvent: (name) => {
      if (name === GOODBYE_EVENT) missing.saidGoodbye();
    },
  });
}

/** The one who launched us, and after its end whoever is the controller. */
async function serve(token: string, paths: readonly string[]): Promise<void> {
  let retryMs = FIRST_RETRY_MS;
  for (let attempt = 0; ; attempt += 1) {
    try {
      peer = await open(paths[attempt % paths.length] ?? controllerSocket(), token);
      retryMs = FIRST_RETRY_MS;
      missing.met(peer.remote.details);
      if (server.trouble !== undefined) peer.event(BACKEND_EVENT, server.trouble);
      await peer.closed;
    } catch {
      // Nobody listens there; what the other side refuses, it logs.
    }
    peer = undefined;
    if (server.record === undefined) {
      if (isSpare) process.exit(0);
      log('error', undefined, 'a server process lost its controller before its device was there');
      process.exit(1);
    }
    await delay(retryMs);
    missing.missed();
    retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
  }
}

/** Recovery is the safe state: the process ends at once, without a JS stack in the log. */
function abort(thrown: unknown): void {
  log('error', server.record?.id, `the server process aborts: ${asGatewayError(thrown).line}`);
  process.kill(process.pid, 'SIGABRT');
}

process.on('uncaughtException', abort);
process.on('unhandledRejection', abort);
process.title = isSpare ? 'ublk-nbd: spare' : 'ublk-nbd: server process';
logToStdout();

if (token === undefined || path === undefined) {
  process.stderr.write('ublk-nbd: a server process is started by the controller only\n');
  process.exit(2);
}
await serve(token, [...new Set([path, controllerSocket()])]);
