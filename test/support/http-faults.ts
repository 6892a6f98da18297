/**
 * Owns: what may be wrong with an answer of a web server, or with the way to it, and goes by.
 * Runs in: device test processes.
 * Must not: use the product's code; headers and statuses are those of RFC 9110.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { type Answer, type Asked, type Fault, honest, rawAnswer } from './http-fault-proxy.ts';

const NOTHING = Buffer.alloc(0);

const FIRST_PART_BYTES = 256 * 1024;
/** An answer that is drip-fed comes in so many pieces. */
const DRIPS = 40;
const DRIP_EVERY_MS = 25;

/** Strikes by sending another answer than the right one. */
function sends(change: (answer: Answer) => Answer): Fault {
  return async (asked) => {
    await asked.send(change(await asked.origin()));
    return 'struck';
  };
}

function withHeader(answer: Answer, name: string, value: string): Answer {
  return { ...answer, headers: { ...answer.headers, [name]: value } };
}

/** Moves the range that the answer says it is by `bytes`; the body stays. */
function moved(answer: Answer, bytes: number): Answer {
  const move = (text: string) => String(Math.max(0, Number(text) + bytes));
  const range = answer.headers['content-range'] ?? '';
  const told = range.replace(/(\d+)-(\d+)/, (_, first, last) => `${move(first)}-${move(last)}`);
  return withHeader(answer, 'content-range', told);
}

/** Sends a part of what goes over the connection, and no more. */
async function sendHalf(asked: Asked): Promise<'struck'> {
  const raw = rawAnswer(await asked.origin());
  await asked.write(raw.subarray(0, raw.length >> 1));
  return 'struck';
}

/** Resets the connection when so many bytes of the answer are sent, or all of it is. */
export function resetAfter(bytes: number): Fault {
  return async (asked) => {
    await asked.write(rawAnswer(await asked.origin()).subarray(0, bytes));
    asked.reset();
    return 'struck';
  };
}

/** An object that another one has taken the place of, in the middle of a transfer. */
export const anotherETag: Fault = sends((answer) => withHeader(answer, 'etag', '"another"'));

export const gzipped: Fault = sends((answer) =>
  // Not compressed, which takes a slow machine as long as silence.
  withHeader({ ...answer, body: gzipSync(answer.body, { level: 0 }) }, 'content-encoding', 'gzip'),
);

/**
 * The whole object, with 200, where a range was asked for; nobody has to read to its end, so that
 * the connection ends after the first part of it.
 */
export const everything: Fault = async (asked) => {
  const { headers, body } = await asked.origin(`bytes=0-${FIRST_PART_BYTES - 1}`);
  const { 'content-range': range = '', ...others } = headers;
  const whole = { ...others, 'content-length': range.split('/')[1] ?? '' };
  await asked.send({ status: 200, headers: whole, body });
  asked.end();
  return 'struck';
};

/** S3 sheds load so, without a Retry-After. */
export const slowDown: Fault = sends(() => ({
  status: 503,
  headers: { 'content-type': 'application/xml' },
  body: Buffer.from('<Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>'),
}));

/** Each of them is over when it is asked again. */
export const PASSING_FAULTS: Readonly<Record<string, Fault>> = {
  'a head that comes in drips': async (asked) => {
    const raw = rawAnswer(await asked.origin());
    const body = raw.indexOf('\r\n\r\n') + 4;
    const dripBytes = Math.ceil(body / DRIPS);
    for (let at = 0; at < body; at += dripBytes) {
      await asked.write(raw.subarray(at, Math.min(body, at + dripBytes)));
      await delay(1);
    }
    await asked.write(raw.subarray(body));
    return 'struck';
  },
  '503 with Retry-After': sends(() => overloaded(503)),
  '429 with Retry-After': sends(() => overloaded(429)),
  '500 with a body': sends(() => ({ status: 500, headers: {}, body: Buffer.alloc(4096, 'no') })),
  'a body that ends early': async (asked) => {
    await sendHalf(asked);
    asked.end();
    return 'struck';
  },
  'a body that stops coming': sendHalf,
  'a body that is short, and says so': sends((answer) => ({
    ...answer,
    body: answer.body.subarray(0, answer.body.length >> 1),
  })),
  'a body of another range': sends((answer) => moved(answer, 512)),
  'no Content-Range': sends((answer) => {
    const { 'content-range': _, ...headers } = answer.headers;
    return { ...answer, headers };
  }),
  'gzip as Content-Encoding': gzipped,
  'everything for a range': everything,
  'a body that comes in drips': async (asked) => {
    const raw = rawAnswer(await asked.origin());
    const dripBytes = Math.ceil(raw.length / DRIPS);
    for (let at = 0; at < raw.length; at += dripBytes) {
      await asked.write(raw.subarray(at, at + dripBytes));
      await delay(DRIP_EVERY_MS);
    }
    return 'struck';
  },
};

function overloaded(status: number): Answer {
  return { status, headers: { 'Retry-After': '1' }, body: NOTHING };
}

/** Strikes one of `count` requests, the first of them not before the `count`th. */
export function oneOf(count: number, fault: Fault): Fault {
  let requests = 0;
  return (asked) => {
    requests += 1;
    return requests % count === 0 ? fault(asked) : honest(asked);
  };
}

/** Strikes one of `count` requests, with each of `faults` in turn. */
export function inTurn(count: number, faults: readonly Fault[]): Fault {
  let strikes = 0;
  return oneOf(count, (asked) => {
    strikes += 1;
    return (faults[strikes % faults.length] ?? honest)(asked);
  });
}

/** Redirects to an address that answers so many requests, and 403 after them. */
export function redirectThatExpires(requests: number): Fault {
  let key = 0;
  let left = 0;
  return async (asked) => {
    const [path = '', query] = asked.path.split('?');
    if (query === undefined) {
      key += 1;
      left = requests;
      const headers = { Location: `${path}?key=${key}` };
      await asked.send({ status: 302, headers, body: NOTHING });
      return 'honest';
    }
    if (query === `key=${key}` && left > 0) {
      left -= 1;
      return honest(asked);
    }
    await asked.send({ status: 403, headers: {}, body: NOTHING });
    return 'struck';
  };
}
