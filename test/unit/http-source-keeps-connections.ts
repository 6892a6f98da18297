/**
 * Claim: connections are kept and bounded; one that ended while it was idle costs no read, and a
 * body that nobody wants is not transferred.
 * Method: servers that count connections and requests, and end them at a chosen one.
 */
import { readlinkSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import {
  httpOrigin,
  OBJECT,
  type Outcome,
  openLazily,
  rawOrigin,
  rawRange,
  readRange,
  sendRange,
  type Teardown,
} from '../support/http-origin.ts';

const LENGTH = 16;

/** Answers `answers` requests on each connection, and then resets it without a word. */
async function forgetful(t: Teardown, answers: number): Promise<{ base: string; asked: number[] }> {
  const used = new Map<Socket, number>();
  const asked: number[] = [];
  const base = await rawOrigin(t, (socket, head) => {
    const before = used.get(socket) ?? 0;
    used.set(socket, before + 1);
    asked.push(before);
    if (before < answers) socket.write(rawRange(head));
    else socket.resetAndDestroy();
  });
  return { base, asked };
}

t.test('a kept connection that ends as it is used costs no read', async (t) => {
  const { base, asked } = await forgetful(t, 1);
  const links: string[] = [];
  const source = await openLazily(t, `${base}/image`, {
    connections: 1,
    connected: (fd) => void links.push(readlinkSync(`/proc/self/fd/${fd}`)),
  });
  for (const offset of [0, 16, 32]) {
    const outcome = await readRange(source, offset, LENGTH);
    t.equal(outcome.line, '');
    t.strictSame(outcome.into, OBJECT.slice(offset, offset + LENGTH));
    await sleep(50);
  }
  t.strictSame(asked, [0, 1, 0, 1, 0]);
  t.match(links, [/^socket:/, /^socket:/, /^socket:/], 'who tunes connections sees each of them');
});

t.test('a kept connection that ends after it began to answer is not asked again', async (t) => {
  for (const sent of [10, -8]) {
    let asked = 0;
    const base = await rawOrigin(t, (socket, head) => {
      asked += 1;
      const answer = rawRange(head);
      if (asked === 1) socket.write(answer);
      else socket.write(answer.subarray(0, sent), () => setTimeout(() => socket.destroy(), 100));
    });
    const source = await openLazily(t, `${base}/image`, { connections: 1 });
    t.equal((await readRange(source, 0, LENGTH)).line, '');
    await sleep(50);
    t.match((await readRange(source, 0, LENGTH)).line, /UNBD_BACKEND_CLOSED/);
    t.equal(asked, 2);
  }
});

t.test('a new connection that ends is the failure of the origin', async (t) => {
  const { base, asked } = await forgetful(t, 0);
  const source = await openLazily(t, `${base}/image`);
  t.match((await readRange(source, 0, LENGTH)).line, /UNBD_BACKEND_CLOSED/);
  t.strictSame(asked, [0], 'it was asked once');
});

t.test('a body that nobody wants is not transferred', async (t) => {
  const { base: mirror } = await httpOrigin(t, sendRange);
  for (const status of [200, 302, 403, 500]) {
    let sent = 0;
    const { base } = await httpOrigin(t, (_request, response) => {
      response.statusCode = status;
      if (status === 302) response.setHeader('Location', mirror);
      const send = (): void => {
        sent += 1;
        if (!response.destroyed) response.write(Buffer.alloc(65_536), () => setImmediate(send));
      };
      send();
    });
    const outcome = await readRange(await openLazily(t, `${base}/image`), 0, LENGTH);
    t.match(outcome.line, status === 302 ? /^$/ : /\[UNBD_/, String(status));
    const before = sent;
    await sleep(300);
    t.ok(sent - before < 100, 'the server may stop');
    const settled = sent;
    await sleep(100);
    t.equal(sent, settled, 'and has stopped');
  }
});

t.test('connections are kept, and not more than allowed', async (t) => {
  const origin = await httpOrigin(t, sendRange);
  const source = await openLazily(t, `${origin.base}/image`, { connections: 2 });
  const reads = Array.from({ length: 20 }, (_, at) => readRange(source, at * 16, LENGTH));
  for (const [at, { into }] of (await Promise.all(reads)).entries()) {
    t.strictSame(into, OBJECT.slice(at * 16, at * 16 + LENGTH));
  }
  t.equal(origin.connections, 2);
});

t.test('an origin that was away is found again, and no read is left behind', async (t) => {
  const server = createServer(sendRange);
  const listen = (port: number): Promise<number> =>
    new Promise((resolve) => {
      server.listen(port, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
    });
  const stop = (): void => {
    server.closeAllConnections();
    server.close();
  };
  t.teardown(stop);
  const port = await listen(0);
  const source = await openLazily(t, `http://127.0.0.1:${port}/image`, { connections: 2 });
  const readAll = (): Promise<Outcome[]> =>
    Promise.all(Array.from({ length: 20 }, (_, at) => readRange(source, at * 16, LENGTH)));
  for (const isThere of [true, false, true, false, true]) {
    if (!isThere) stop();
    else if (!server.listening) await listen(port);
    for (const { line } of await readAll()) {
      if (isThere) t.equal(line, '');
      else t.match(line, /UNBD_BACKEND_(UNREACHABLE|CLOSED)/);
    }
  }
});
