/**
 * Claim: whatever a connection does in the middle of an answer, what landed is right, the rest is
 * untouched, and the read ends in time with its cause.
 * Method: servers that cut, stall and drip at every byte; reads that are given up.
 */
import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { readHeaderFile } from '../../src/protocols/http/files.ts';
import {
  failure,
  httpOrigin,
  OBJECT,
  type Outcome,
  openLazily,
  rawOrigin,
  rawRange,
  readRange,
  sendRange,
} from '../support/http-origin.ts';

const LENGTH = 16;

function isRight(t: Test, outcome: Outcome, offsetBytes = 0): void {
  const { into, landed, landedBytes } = outcome;
  const right = OBJECT.slice(offsetBytes, offsetBytes + landedBytes);
  t.strictSame(into.slice(0, landedBytes), right, 'what landed is right');
  t.ok(
    into.subarray(landedBytes).every((byte) => byte === 0),
    'the rest is untouched',
  );
  t.ok(
    landed.every((bytes, at) => bytes > (landed[at - 1] ?? 0)),
    'it grows',
  );
}

const ENDS: Readonly<Record<string, (socket: Socket) => void>> = {
  closed: (socket) => socket.end(),
  reset: (socket) => socket.resetAndDestroy(),
};

for (const [name, end] of Object.entries(ENDS)) {
  t.test(`a connection that is ${name} at any byte of an answer`, async (t) => {
    let cut = 0;
    const base = await rawOrigin(t, (socket, head) => {
      const answer = rawRange(head);
      socket.write(answer.subarray(0, cut), () => setImmediate(() => end(socket)));
    });
    const whole = rawRange(`bytes=0-${LENGTH - 1}`).length;
    const source = await openLazily(t, `${base}/image`);
    for (cut = 0; cut < whole; cut += 1) {
      const outcome = await readRange(source, 0, LENGTH);
      t.match(outcome.line, /UNBD_BACKEND_CLOSED/, `after ${cut} of ${whole} bytes`);
      t.ok(outcome.landedBytes <= Math.max(0, cut - (whole - LENGTH)));
      isRight(t, outcome);
    }
    const outcome = await readRange(source, 0, LENGTH);
    t.equal(outcome.line, '', 'after the last byte');
    isRight(t, outcome);
  });
}

t.test('what landed before a body is cut off stays', async (t) => {
  const base = await rawOrigin(t, (socket, head) => {
    const answer = rawRange(head);
    socket.write(answer.subarray(0, answer.length - 100));
    setTimeout(() => socket.destroy(), 200);
  });
  const outcome = await readRange(await openLazily(t, `${base}/image`), 512, 512);
  t.equal(outcome.landedBytes, 412);
  t.match(outcome.line, /ended after 412 bytes of the answer.*UNBD_BACKEND_CLOSED/);
  isRight(t, outcome, 512);
});

t.test('what is no HTTP is refused', async (t) => {
  const base = await rawOrigin(t, (socket) => socket.write('220 mail.example ESMTP\r\n\r\n'));
  const outcome = await readRange(await openLazily(t, `${base}/image`), 0, LENGTH);
  t.match(outcome.line, /does not speak HTTP.*UNBD_BACKEND_PROTOCOL/);
});

t.test('an end in the middle of a chunk is an end of the connection', async (t) => {
  const lines = 'Content-Range: bytes 0-15/4096\r\nETag: "v1"\r\nConnection: close\r\n';
  const start = `HTTP/1.1 206 OK\r\n${lines}Transfer-Encoding: chunked\r\n\r\n10\r\n`;
  const base = await rawOrigin(t, (socket) => {
    socket.end(Buffer.concat([Buffer.from(start), OBJECT.subarray(0, 4)]));
  });
  const outcome = await readRange(await openLazily(t, `${base}/image`), 0, LENGTH);
  t.match(outcome.line, /ended after 4 bytes.*UNBD_BACKEND_CLOSED/);
  isRight(t, outcome);
});

t.test('an interim answer is not the answer', async (t) => {
  const base = await rawOrigin(t, (socket, head) => {
    socket.write('HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n');
    socket.write(rawRange(head));
  });
  const outcome = await readRange(await openLazily(t, `${base}/image`), 0, LENGTH);
  t.equal(outcome.line, '');
  isRight(t, outcome);
});

const SHORT_MS = 400;

t.test('silence ends a read: before the head, in it, and between two pieces', async (t) => {
  for (const [sent, landed] of [
    [0, 0],
    [20, 0],
    [-4, LENGTH - 4],
  ] as const) {
    const base = await rawOrigin(t, (socket, head) => {
      socket.write(rawRange(head).subarray(0, sent));
    });
    const source = await openLazily(t, `${base}/image`, { timeoutMs: SHORT_MS });
    const began = performance.now();
    const outcome = await readRange(source, 0, LENGTH);
    const tookMs = performance.now() - began;
    t.match(outcome.line, /sent nothing for 400 ms.*UNBD_BACKEND_TIMEOUT/, `${sent} bytes sent`);
    t.ok(tookMs > SHORT_MS * 0.9 && tookMs < SHORT_MS * 10, `after ${tookMs} ms`);
    t.equal(outcome.landedBytes, landed);
    isRight(t, outcome);
  }
});

t.test('a body that drips is read to its end, however long it takes', async (t) => {
  const base = await rawOrigin(t, async (socket, head) => {
    const answer = rawRange(head);
    socket.write(answer.subarray(0, answer.length - LENGTH));
    for (let at = answer.length - LENGTH; at < answer.length; at += 1) {
      await sleep(SHORT_MS / 8);
      socket.write(answer.subarray(at, at + 1));
    }
  });
  const source = await openLazily(t, `${base}/image`, { timeoutMs: SHORT_MS });
  const outcome = await readRange(source, 0, LENGTH);
  t.equal(outcome.line, '');
  t.ok(outcome.landed.length > 2, 'in pieces');
  isRight(t, outcome);
});

t.test('nothing is written after a read was given up', async (t) => {
  let release: (() => void) | undefined;
  const base = await rawOrigin(t, (socket, head) => {
    const answer = rawRange(head);
    socket.write(answer.subarray(0, -8));
    release = () => socket.write(answer.subarray(-8));
  });
  const source = await openLazily(t, `${base}/image`);
  const stop = new AbortController();
  const outcome = await readRange(source, 0, LENGTH, stop.signal, () => stop.abort());
  t.match(outcome.line, /given up.*UNBD_INTERRUPTED/);
  release?.();
  await sleep(200);
  t.equal(outcome.landedBytes, LENGTH - 8);
  isRight(t, outcome);
});

t.test('a read that was given up before it began asks for nothing', async (t) => {
  const { base, requests } = await httpOrigin(t, sendRange);
  const source = await openLazily(t, `${base}/image`);
  t.match((await readRange(source, 0, LENGTH, AbortSignal.abort())).line, /UNBD_INTERRUPTED/);
  t.equal(requests.length, 0);
});

t.test('a read that waits for a connection can be given up, and spares the next one', async (t) => {
  const { base, requests } = await httpOrigin(t, (request, response) => {
    setTimeout(() => sendRange(request, response), 300);
  });
  const source = await openLazily(t, `${base}/image`, { connections: 1 });
  const stop = new AbortController();
  const first = readRange(source, 0, LENGTH);
  const waiting = readRange(source, 16, LENGTH, stop.signal);
  const last = readRange(source, 32, LENGTH);
  stop.abort();
  t.match((await waiting).line, /UNBD_INTERRUPTED/);
  isRight(t, await first);
  isRight(t, await last, 32);
  t.strictSame(
    requests.map(({ headers }) => headers.range),
    ['bytes=0-15', 'bytes=32-47'],
  );
});

t.test('a read that waits for a file of headers can be given up', async (t) => {
  const path = `${t.testdir()}/headers`;
  execFileSync('mkfifo', [path]);
  const { base } = await httpOrigin(t, (_request, response) => response.writeHead(401).end());
  const opened = openLazily(t, `${base}/image`, { headerFile: path });
  await writeFile(path, 'X-Try: 1\n');
  const stop = new AbortController();
  const waiting = readRange(await opened, 0, LENGTH, stop.signal);
  // The origin refuses; the file is read again, and nobody writes it.
  await sleep(200);
  stop.abort();
  t.match((await waiting).line, /given up.*UNBD_INTERRUPTED/);
  await writeFile(path, 'X-Try: 2\n');
});

t.test('a file that hangs is told in time, and has one thread however many read it', async (t) => {
  const path = `${t.testdir()}/headers`;
  execFileSync('mkfifo', [path]);
  const late = await Promise.all(
    Array.from({ length: 8 }, () => failure(readHeaderFile(path, 100))),
  );
  for (const error of late) t.match(error?.line, /gave nothing within 0.1 s.*UNBD_USAGE/);
  const all = Array.from({ length: 8 }, () => readHeaderFile(path));
  await writeFile(path, 'X-Try: 1\n');
  for (const headers of await Promise.all(all)) t.strictSame(headers, ['X-Try', '1']);
});

t.test('close ends the reads that are under way, and the later ones', async (t) => {
  const base = await rawOrigin(t, (socket, head) => socket.write(rawRange(head).subarray(0, -8)));
  const source = await openLazily(t, `${base}/image`);
  let close: Promise<void> | undefined;
  const outcome = await readRange(source, 0, LENGTH, undefined, () => {
    close = source.close();
  });
  await close;
  t.match(outcome.line, /was closed.*UNBD_BACKEND_CLOSED/);
  t.equal(outcome.landedBytes, LENGTH - 8);
  t.match((await readRange(source, 0, LENGTH)).line, /was closed.*UNBD_BACKEND_CLOSED/);
});
