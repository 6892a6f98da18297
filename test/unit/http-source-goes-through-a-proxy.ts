/**
 * Claim: with a proxy every connection is a tunnel through it, http and https alike, checked within
 * as without; without one nothing in the environment brings one about; and what the proxy refuses
 * is told as its doing.
 * Method: a proxy of the test's own that counts tunnels, before servers of the test's own.
 */
import { readlinkSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect as dial, type Socket } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { parseProxy } from '../../src/protocols/http/proxy-address.ts';
import {
  failure,
  httpOrigin,
  OBJECT,
  open,
  readRange,
  selfSigned,
  sendRange,
  type Teardown,
} from '../support/http-origin.ts';

interface Proxy {
  /** What a source is told of it. */
  readonly address: { readonly origin: string };
  /** Where each tunnel led. */
  readonly tunnels: string[];
  /** Requests that were no CONNECT. */
  others: number;
  endTunnels(): void;
}

/** `answer`: the status of a tunnel that has these headers; 200 makes it. */
async function proxyServer(
  t: Teardown,
  answer: (headers: IncomingHttpHeaders) => number = () => 200,
): Promise<Proxy> {
  const sockets = new Set<Socket>();
  const server = createServer((_request, response) => {
    proxy.others += 1;
    response.writeHead(500).end();
  });
  server.on('connect', (request, socket: Socket) => {
    proxy.tunnels.push(request.url ?? '');
    sockets.add(socket);
    socket.on('error', () => {});
    const status = answer(request.headers);
    if (status !== 200) {
      socket.end(`HTTP/1.1 ${status} No\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    const { hostname, port } = new URL(`http://${request.url}`);
    const origin = dial(Number(port === '' ? 80 : port), hostname, () => {
      socket.write('HTTP/1.1 200 Connected\r\n\r\n');
      origin.pipe(socket).pipe(origin);
    });
    sockets.add(origin);
    origin.on('error', () => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const endTunnels = () => {
    for (const socket of sockets) socket.destroy();
  };
  t.teardown(() => {
    endTunnels();
    server.close();
  });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const proxy: Proxy = { address: { origin }, tunnels: [], others: 0, endTunnels };
  return proxy;
}

t.test('an origin of http is reached through a tunnel that is kept', async (t) => {
  const origin = await httpOrigin(t, sendRange);
  const proxy = await proxyServer(t);
  const source = await open(t, `${origin.base}/image`, { proxy: proxy.address, connections: 1 });
  for (const offset of [0, 64, 128]) {
    t.strictSame((await readRange(source, offset, 64)).into, OBJECT.slice(offset, offset + 64));
  }
  t.strictSame(proxy.tunnels.slice(1), [], 'one connection, one tunnel');
  t.equal(`http://${proxy.tunnels[0]}`, origin.base);
  t.equal(proxy.others, 0);
  t.equal(origin.requests.length, 4);
  t.notOk(origin.requests[0]?.headers['proxy-authorization']);
});

t.test('TLS goes through it from end to end', async (t) => {
  const certificate = selfSigned(t.testdir());
  const server = createTlsServer(certificate, sendRange);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const proxy = await proxyServer(t);
  const address = `https://127.0.0.1:${(server.address() as AddressInfo).port}/image`;
  const links: string[] = [];
  const source = await open(t, address, {
    ...{ proxy: proxy.address, caFile: certificate.path, connections: 1 },
    connected: (fd) => void links.push(readlinkSync(`/proc/self/fd/${fd}`)),
  });
  t.strictSame((await readRange(source, 8, 16)).into, OBJECT.slice(8, 24));
  t.match(links, [/^socket:/], 'who tunes connections sees the one beneath TLS');
  t.equal(proxy.tunnels.length, 1);
  const untrusted = await failure(open(t, address, { proxy: proxy.address }));
  t.match(untrusted?.line, /the certificate of 127\.0\.0\.1:\d+ is not trusted/);
});

t.test('what the proxy refuses is its doing', async (t) => {
  const origin = await httpOrigin(t, sendRange);
  for (const [status, line] of [
    [407, /the proxy http:\/\/127\S+ asks for credentials; .*--proxy-header-file.*EXPORT_REFUSED/],
    [
      403,
      /the proxy http:\/\/127\S+ answers 403 to a tunnel to 127\S+; check --proxy.*UNREACHABLE/,
    ],
    [502, /answers 502 to a tunnel/],
  ] as const) {
    const proxy = await proxyServer(t, () => status);
    const error = await failure(open(t, `${origin.base}/image`, { proxy: proxy.address }));
    t.match(error?.line, line);
  }
  const gone = await failure(
    open(t, `${origin.base}/image`, { proxy: { origin: 'http://127.0.0.1:1' } }),
  );
  t.match(
    gone?.line,
    /the proxy http:\/\/127\.0\.0\.1:1 gives no tunnel.*ECONNREFUSED.*UNREACHABLE/,
  );
  t.equal(origin.requests.length, 0);
});

t.test(
  'a proxy that asks for credentials gets those of its file, and nobody else does',
  async (t) => {
    const origin = await httpOrigin(t, sendRange);
    let wanted = 'Basic b25l';
    const proxy = await proxyServer(t, (headers) =>
      headers['proxy-authorization'] === wanted ? 200 : 407,
    );
    const headerFile = join(t.testdir({ headers: 'Proxy-Authorization: Basic b25l\n' }), 'headers');
    const reach = { ...proxy.address, headerFile };
    const source = await open(t, `${origin.base}/image`, { proxy: reach, connections: 1 });
    t.strictSame((await readRange(source, 0, 16)).into, OBJECT.slice(0, 16));
    for (const { headers } of origin.requests) t.notOk(headers['proxy-authorization']);

    // Another user from now on: connections that stand are as good as before, new ones are not.
    wanted = 'Basic dHdv';
    t.strictSame((await readRange(source, 16, 16)).into, OBJECT.slice(16, 32));
    proxy.endTunnels();
    const { line } = await readRange(source, 32, 16);
    t.match(line, /refuses the credentials of \S+\/headers.*UNBD_EXPORT_REFUSED/);
    t.notMatch(line, /b25l/);
    writeFileSync(headerFile, 'Proxy-Authorization: Basic dHdv\n');
    t.strictSame(
      (await readRange(source, 32, 16)).into,
      OBJECT.slice(32, 48),
      'the file is read again',
    );

    const missing = { ...proxy.address, headerFile: '/nowhere/headers' };
    const error = await failure(open(t, `${origin.base}/image`, { proxy: missing }));
    t.match(error?.line, /header file \/nowhere\/headers cannot be read \(ENOENT\).*UNBD_USAGE/);
  },
);

t.test('a proxy in the environment is not used', async (t) => {
  const origin = await httpOrigin(t, sendRange);
  const proxy = await proxyServer(t);
  const names = ['http_proxy', 'HTTP_PROXY', 'https_proxy', 'ALL_PROXY', 'NODE_USE_ENV_PROXY'];
  for (const name of names)
    process.env[name] = name.endsWith('ENV_PROXY') ? '1' : proxy.address.origin;
  t.teardown(() => {
    for (const name of names) delete process.env[name];
  });
  const source = await open(t, `${origin.base}/image`);
  t.strictSame((await readRange(source, 0, 16)).into, OBJECT.slice(0, 16));
  t.strictSame(proxy.tunnels, []);
  t.equal(proxy.others, 0);
});

t.test('an address of a proxy is a host and a port, without a secret', async (t) => {
  t.equal(parseProxy('http://proxy.example:3128'), 'http://proxy.example:3128');
  t.equal(parseProxy('HTTP://Proxy.example:80/'), 'http://proxy.example');
  t.equal(parseProxy('http://[::1]:3128'), 'http://[::1]:3128');
  for (const [text, why] of [
    ['https://proxy.example', /not an http:\/\/ address/],
    ['socks5://proxy.example', /not an http:\/\/ address/],
    ['proxy.example:3128', /not an http:\/\/ address/],
    ['http://user:hunter2@proxy.example', /user name or password/],
    ['http://@proxy.example', /user name or password/],
    ['http://proxy.example/path', /more than a host and a port/],
    ['http://proxy.example?hunter2', /more than a host and a port/],
    ['http://proxy.example:0', /more than a host and a port/],
    ['http://proxy.example:99999', /not an address/],
    ['', /not an http:\/\/ address/],
  ] as const) {
    const error = await failure((async () => parseProxy(text))());
    t.equal(error?.code, 'UNBD_USAGE', text);
    t.match(error?.message, why, text);
    t.notMatch(error?.line, /hunter2/);
  }
});
