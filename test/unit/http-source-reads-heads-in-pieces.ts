/**
 * Claim: a head that comes in pieces is read as one that comes at once, whatever this and other
 * connections bring in between, over TLS as without; also an interim one and a redirect.
 * Method: servers that write each byte of a head alone, and that end one answer between two parts
 * of another's head.
 */
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { createServer as createTlsServer } from 'node:tls';
import t from 'tap';
import {
  ETAG,
  OBJECT,
  open,
  openLazily,
  rawOrigin,
  rawRange,
  readRange,
  selfSigned,
} from '../support/http-origin.ts';

const LENGTH = 64;

/** One byte after the other, each of them a read of its own; the body at once. */
async function trickle(socket: Socket, answer: Buffer): Promise<void> {
  const body = answer.indexOf('\r\n\r\n') + 4;
  socket.setNoDelay(true);
  for (let at = 0; at < body; at += 1) {
    socket.write(answer.subarray(at, at + 1));
    await new Promise((resolve) => setImmediate(resolve));
  }
  socket.write(answer.subarray(body));
}

t.test('an object is opened and read, each byte of a head alone', async (t) => {
  const base = await rawOrigin(t, (socket, head) => void trickle(socket, rawRange(head)));
  const source = await open(t, `${base}/image`, { connections: 1 });
  t.equal(source.identity.etag, ETAG);
  for (const offset of [0, 100]) {
    const outcome = await readRange(source, offset, LENGTH);
    t.equal(outcome.line, '');
    t.strictSame(outcome.into, OBJECT.slice(offset, offset + LENGTH));
  }
});

t.test('over TLS too, each byte a record of its own', async (t) => {
  const certificate = selfSigned(t.testdir());
  const sockets = new Set<Socket>();
  const server = createTlsServer(certificate, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('data', (head) => void trickle(socket, rawRange(head.toString('latin1'))));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = `https://127.0.0.1:${(server.address() as AddressInfo).port}/image`;
  const source = await open(t, address, { caFile: certificate.path });
  t.strictSame((await readRange(source, 8, LENGTH)).into, OBJECT.slice(8, 8 + LENGTH));
});

t.test('an interim answer before it, and a redirect to it, come in pieces too', async (t) => {
  const interim = Buffer.from('HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nETag: "none"\r\n\r\n');
  const base = await rawOrigin(t, (socket, head) => {
    const isMoved = head.startsWith('GET /moved ');
    const moved = 'HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /image\r\n\r\n';
    const answer = isMoved ? Buffer.from(moved) : rawRange(head);
    void trickle(socket, interim).then(() => trickle(socket, answer));
  });
  const source = await open(t, `${base}/moved`);
  t.equal(source.identity.etag, ETAG);
  const outcome = await readRange(source, 16, LENGTH);
  t.equal(outcome.line, '');
  t.strictSame(outcome.into, OBJECT.slice(16, 16 + LENGTH));
});

t.test('what another connection brings in between does not pass for a part of it', async (t) => {
  const other = Buffer.from(
    rawRange('bytes=0-15').toString('latin1').replace(ETAG, '"v9"'),
    'latin1',
  );
  t.equal(other.length, rawRange('bytes=0-15').length, 'its version stands at the same place');
  let first: Socket | undefined;
  const end = other.indexOf('"v9"\r\n') + 6;
  const base = await rawOrigin(t, (socket, _head, count) => {
    if (count > 0) {
      socket.write(rawRange('bytes=16-31'));
      return;
    }
    first = socket;
    socket.write(other.subarray(0, end));
  });
  const source = await openLazily(t, `${base}/image`);
  const changed = readRange(source, 0, 16);
  while (first === undefined) await sleep(1);
  // Its part has been read by then.
  await sleep(50);
  const right = await readRange(source, 16, 16);
  t.strictSame(right.into, OBJECT.slice(16, 32));
  first.write(other.subarray(end));
  const outcome = await changed;
  t.match(outcome.line, /its ETag was .* and is "v9".*UNBD_OBJECT_CHANGED/);
  t.strictSame(outcome.landed, []);
});
