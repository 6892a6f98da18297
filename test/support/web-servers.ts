/**
 * Owns: starting and ending the real web servers of Debian on a folder of images.
 * Runs in: device test processes; the servers are programs of their own beside them.
 * Must not: hand out a server before it answers.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { get, type IncomingMessage } from 'node:http';
import { get as getByTls } from 'node:https';
import { freePort, lighttpdModules, unpackedProgram, untilItServes } from './backends.ts';
import type { Certificate } from './certificate.ts';
import { must, type Running, shell, start } from './process.ts';
import type { Scope } from './scope.ts';

export interface WebServer {
  readonly port: number;
  /** The URL of a file in its folder. */
  url(name: string): string;
  /** One line for each request that it answered: `METHOD PATH STATUS BYTES RANGE`. */
  requests(): readonly string[];
  readonly running: Running;
}

function answers(port: number, tls?: Certificate): Promise<boolean> {
  const where = { host: '127.0.0.1', port, path: '/', agent: false } as const;
  return new Promise((resolve) => {
    const onAnswer = (answer: IncomingMessage): void => {
      answer.resume();
      resolve(true);
    };
    const request =
      tls === undefined
        ? get(where, onAnswer)
        : getByTls({ ...where, ca: readFileSync(tls.authority) }, onAnswer);
    request.once('error', () => resolve(false));
  });
}

export interface NginxOptions {
  /** Where one that was killed comes back; else a free one. */
  readonly port?: number;
  /** By https alone then. */
  readonly tls?: Certificate | undefined;
  /** More lines of its configuration, each with its semicolon. */
  readonly settings?: string;
}

export async function startNginx(
  scope: Scope,
  folder: string,
  { port: given, tls, settings = '' }: NginxOptions = {},
): Promise<WebServer> {
  const port = given ?? (await freePort());
  const own = scope.path(`nginx-${port}`);
  const log = `${own}.log`;
  const format = "'$request_method $uri $status $body_bytes_sent $http_range'";
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  const secured = tls ? `ssl_certificate ${tls.own}; ssl_certificate_key ${tls.key};` : '';
  const lines = [
    'daemon off; master_process off; worker_processes 1; user root;',
    `pid ${own}.pid; error_log stderr;`,
    'events { worker_connections 256; }',
    'http {',
    `  log_format short ${format}; access_log ${log} short;`,
    ...temporary.map((name) => `  ${name}_temp_path ${own}-${name};`),
    `  server { listen 127.0.0.1:${port}${secured && ' ssl'}; root ${folder};`,
    `${secured} ${settings} }`,
    '}',
  ];
  writeFileSync(`${own}.conf`, lines.join('\n'));
  writeFileSync(log, '', { flag: 'a' });
  const words = ['-p', own, '-e', 'stderr', '-c', `${own}.conf`];
  const running = start(scope, [unpackedProgram('nginx'), ...words]);
  return served(running, port, log, tls);
}

/** lighttpd, for a second opinion on ranges and validators; by https alone with a certificate. */
export async function startLighttpd(
  scope: Scope,
  folder: string,
  tls?: Certificate,
): Promise<WebServer> {
  const port = await freePort();
  const own = scope.path(`lighttpd-${port}`);
  const log = `${own}.log`;
  const secured = tls && [
    'ssl.engine = "enable"',
    `ssl.pemfile = "${tls.own}"`,
    `ssl.privkey = "${tls.key}"`,
  ];
  const lines = [
    `server.document-root = "${folder}"`,
    `server.port = ${port}`,
    'server.bind = "127.0.0.1"',
    `server.modules = (${tls ? '"mod_openssl"' : ''})`,
    ...(secured ?? []),
  ];
  writeFileSync(`${own}.conf`, lines.join('\n'));
  writeFileSync(log, '');
  const words = ['-D', '-f', `${own}.conf`, '-m', lighttpdModules()];
  const running = start(scope, [unpackedProgram('lighttpd'), ...words]);
  return served(running, port, log, tls);
}

/** Resolves when it answers. */
async function served(
  running: Running,
  port: number,
  log: string,
  tls?: Certificate,
): Promise<WebServer> {
  await untilItServes(running, 'the web server answers', () => answers(port, tls));
  return {
    port,
    url: (name) => `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}/${name}`,
    requests: () => readFileSync(log, 'utf8').split('\n').slice(0, -1),
    running,
  };
}

/** Of bodies, by the server's log. */
export function sentBytes(web: WebServer, name: string): number {
  const answers = web.requests().map((line) => line.split(' '));
  const bytes = answers.filter(([, path]) => path === name).map(([, , , length]) => Number(length));
  return bytes.reduce((sum, length) => sum + length, 0);
}

/** Bytes that tell their own place, every 8 of them are their offset: their folder and path. */
export async function makePattern(scope: Scope, mebibytes: number): Promise<[string, string]> {
  const folder = scope.path('www');
  await must(['mkdir', '-p', folder]);
  const path = `${folder}/pattern.img`;
  await shell(`nbdkit pattern ${mebibytes}M --run 'nbdcopy "$uri" ${path}'`);
  return [folder, path];
}
