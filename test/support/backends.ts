/**
 * Owns: starting and ending the real NBD backends of Debian: nbdkit, qemu-nbd, nbd-server.
 * Runs in: device test processes; the backends are programs of their own beside them.
 * Must not: hand out a backend before it serves.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectSocket, createServer } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { must, type Running, start, until } from './process.ts';
import type { Scope } from './scope.ts';

/** vsock is that of this very kernel: its loopback, CID 1. */
export type Transport = 'tcp' | 'unix' | 'vsock';

export interface Backend {
  /** What `ublk-nbd connect` takes. */
  readonly target: string;
  /** The same place for other NBD programs: an NBD URI. */
  readonly uri: string;
  readonly pid: number;
  /** Ends it and waits for that. */
  stop(): Promise<void>;
  stderr(): string;
}

/** One whose process is our child. */
export interface ChildBackend extends Backend {
  readonly exited: Promise<unknown>;
}

/** The time that nbd-server's start may take. */
const GREETING_TIMEOUT_MS = 120_000;

/** The cache that scripts/setup fills. */
const cacheFolder =
  process.env.UBLK_NBD_CACHE ??
  join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'ublk-nbd');

/**
 * A program that scripts/setup unpacks instead of installing it, since its package is a service.
 */
export function unpackedProgram(name: string): string {
  const path = join(cacheFolder, 'bin', name);
  assert(existsSync(path), `${path} is missing; run: scripts/setup --test`);
  return path;
}

/** The folder of lighttpd's modules, of which TLS is a package of its own. */
export function lighttpdModules(): string {
  return join(cacheFolder, 'servers', 'usr', 'lib', 'lighttpd');
}

/** A TCP port on 127.0.0.1 that nothing listens on. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      assert(address !== null && typeof address === 'object');
      server.close(() => resolve(address.port));
    });
  });
}

/** Where the process of a backend runs: here, or in a network namespace of its own. */
export interface Site {
  readonly address: string;
  /** Words in front of the program's. */
  readonly prefix: readonly string[];
}

const HERE: Site = { address: '127.0.0.1', prefix: [] };
export const HERE_BY_IPV6: Site = { address: '::1', prefix: [] };

/** Where a backend listens, and how it is named there. */
interface Place {
  readonly port: number;
  readonly socketPath: string;
  readonly target: (exportName: string) => string;
  readonly uri: (exportName: string) => string;
}

async function placeFor(
  scope: Scope,
  transport: Transport,
  given?: number,
  { address } = HERE,
): Promise<Place> {
  const port = given ?? (await freePort());
  const socketPath = scope.path(`${port}.sock`);
  const host = address.includes(':') ? `[${address}]` : address;
  const uris: Readonly<Record<Transport, (name: string) => string>> = {
    tcp: (name) => `nbd://${host}:${port}/${name}`,
    unix: (name) => `nbd+unix:///${name}?socket=${socketPath}`,
    vsock: (name) => `nbd+vsock://1:${port}/${name}`,
  };
  const uri = uris[transport];
  const short = (name: string) => (name === '' ? `${host}:${port}` : `${host}:${port}/${name}`);
  return { port, socketPath, target: transport === 'tcp' ? short : uri, uri };
}

function backendOf(running: Running, place: Place, exportName = ''): ChildBackend {
  return {
    target: place.target(exportName),
    uri: place.uri(exportName),
    pid: running.pid,
    exited: running.exited,
    stop: async () => void (await running.stop()),
    stderr: () => running.stderr(),
  };
}

/** Waits until `condition` holds, unless the program ends before. */
export async function untilItServes(
  running: Running,
  what: string,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  let ended = false;
  const onEnd = (): void => {
    ended = true;
  };
  void running.exited.then(onEnd, onEnd);
  await until(what, () => {
    assert(!ended, `the backend ended: ${running.stderr()}`);
    return condition();
  });
}

function untilPidFile(running: Running, path: string): Promise<void> {
  const isThere = () => existsSync(path) && readFileSync(path, 'utf8').trim() !== '';
  return untilItServes(running, `the backend writes ${path}`, isThere);
}

/** Until 1.33.9 nbdkit may abort where one of its threads answers a client that is just lost. */
export const ONE_THREAD: readonly string[] = ['--threads', '1'];

/**
 * nbdkit with `words` behind its own options: filters, the plugin, its parameters; at a free port
 * unless one is given.
 */
export async function startNbdkit(
  scope: Scope,
  words: readonly string[],
  transport: Transport = 'tcp',
  port?: number,
  site = HERE,
): Promise<ChildBackend> {
  const place = await placeFor(scope, transport, port, site);
  const pidFile = scope.path(`nbdkit-${place.port}.pid`);
  rmSync(pidFile, { force: true });
  const places: Readonly<Record<Transport, readonly string[]>> = {
    tcp: ['--ipaddr', site.address, '--port', String(place.port)],
    unix: ['--unix', place.socketPath],
    vsock: ['--vsock', '--port', String(place.port)],
  };
  const where = places[transport];
  const own = ['--foreground', '--exit-with-parent', '--pidfile', pidFile, ...where];
  const running = start(scope, [...site.prefix, 'nbdkit', ...own, ...words]);
  await untilPidFile(running, pidFile);
  return backendOf(running, place);
}

/**
 * qemu-nbd on an image, or what `options` describe; `words` are its own. It outlives its clients.
 */
export async function startQemuNbd(
  scope: Scope,
  image: string,
  format: 'raw' | 'qcow2' | 'options',
  transport: Transport = 'tcp',
  words: readonly string[] = ['--shared', '8'],
  port?: number,
): Promise<Backend> {
  const place = await placeFor(scope, transport, port);
  const pidFile = scope.path(`qemu-nbd-${place.port}.pid`);
  const where =
    transport === 'unix'
      ? ['--socket', place.socketPath]
      : ['--bind', '127.0.0.1', '--port', String(place.port)];
  rmSync(pidFile, { force: true });
  const kind = format === 'options' ? ['--image-opts'] : ['--format', format];
  const own = ['--persistent', '--discard', 'unmap', '--pid-file', pidFile, ...kind];
  const running = start(scope, ['qemu-nbd', ...own, ...where, ...words, image]);
  await untilPidFile(running, pidFile);
  return backendOf(running, place);
}

/** nbd-server with one export, `disk`; it makes a process for each connection. */
export async function startNbdServer(
  scope: Scope,
  image: string,
  transport: Transport = 'tcp',
  extra: readonly string[] = [],
): Promise<Backend> {
  const place = await placeFor(scope, transport);
  const name = scope.path(`nbd-server-${place.port}`);
  const pidFile = `${name}.pid`;
  const where =
    transport === 'unix'
      ? [`unixsock = ${place.socketPath}`]
      : ['listenaddr = 127.0.0.1', `port = ${place.port}`];
  const features = ['flush = true', 'fua = true', 'trim = true', ...extra];
  const lines = ['[generic]', 'allowlist = true', ...where, '[disk]', `exportname = ${image}`];
  writeFileSync(`${name}.conf`, [...lines, ...features, ''].join('\n'));
  await must([unpackedProgram('nbd-server'), '-C', `${name}.conf`, '-p', pidFile]);
  const pidText = (): string => (existsSync(pidFile) ? readFileSync(pidFile, 'utf8').trim() : '');
  await until('nbd-server writes its pid', () => pidText() !== '');
  const pid = Number(pidText());
  const stop = async (): Promise<void> => {
    if (existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGTERM');
    await until('nbd-server ends', () => !isRunning(pid));
  };
  scope.defer(stop);
  // Between listening and serving it makes Diffie-Hellman parameters: many seconds where emulated.
  await until(
    'nbd-server greets',
    () => greets(transport === 'unix' ? { path: place.socketPath } : { port: place.port }),
    GREETING_TIMEOUT_MS,
  );
  return { target: place.target('disk'), uri: place.uri('disk'), pid, stop, stderr: () => '' };
}

/** A zombie whose parent does not collect it has ended. */
export function isRunning(pid: number): boolean {
  try {
    return !/^State:\s*[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

function greets(where: { path: string } | { port: number }): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connectSocket('path' in where ? where : { ...where, host: '127.0.0.1' });
    const end = (greeted: boolean): void => {
      socket.destroy();
      resolve(greeted);
    };
    socket.once('data', () => end(true));
    socket.once('end', () => end(false));
    socket.once('error', () => end(false));
    socket.setTimeout(GREETING_TIMEOUT_MS, () => end(false));
  });
}
