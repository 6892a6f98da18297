/**
 * Claim: frames come through whole however the stream is cut, and nothing but frames comes through.
 * Method: the decoder alone, fed with every cut, with lengths out of bounds, and with noise.
 */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { encodeFrame, FrameDecoder } from '../../src/gateway/frames.ts';
import { GatewayError } from '../../src/protocols/errors.ts';

const MEBIBYTE = 1_048_576;

const messages = [
  { size: 2n ** 63n - 1n, text: 'Größe', list: [1, 2.5, null, true], at: Date.UTC(2026, 0) },
  [0, 1, 'connect', { readOnly: false }],
  'x'.repeat(70_000),
];

t.test('every cut of the stream gives the same messages', async (t) => {
  const stream = Buffer.concat(messages.slice(0, 2).map((message) => encodeFrame(message)));
  for (let first = 0; first <= stream.length; first += 1) {
    const decoder = new FrameDecoder();
    const got = [
      ...decoder.push(stream.subarray(0, first)),
      ...decoder.push(stream.subarray(first)),
    ];
    t.same(got, messages.slice(0, 2), `cut at ${first}`);
  }
});

t.test('single bytes and one large piece are streams too', async (t) => {
  const stream = Buffer.concat(messages.map((message) => encodeFrame(message)));
  const decoder = new FrameDecoder();
  const got = [...stream].flatMap((byte) => decoder.push(Buffer.from([byte])));
  t.same(got, messages);
  t.same(new FrameDecoder().push(stream), messages);
});

t.test('a frame of 1 MiB passes; one byte more is refused before it has come', async (t) => {
  // msgpack writes a string of this size with a head of 5 bytes.
  const largest = 'a'.repeat(MEBIBYTE - 5);
  t.same(new FrameDecoder().push(encodeFrame(largest)), [largest]);
  t.throws(() => encodeFrame(`${largest}a`), { code: 'UNBD_INTERNAL' });
  const head = Buffer.alloc(4);
  head.writeUInt32BE(MEBIBYTE + 1);
  t.throws(() => new FrameDecoder().push(head), { code: 'UNBD_CONTROLLER' });
  t.throws(() => new FrameDecoder().push(Buffer.alloc(4)), { code: 'UNBD_CONTROLLER' }, 'empty');
});

t.test('noise gives messages or a GatewayError, nothing else', async (t) => {
  for (let round = 0; round < 5_000; round += 1) {
    const body = randomBytes(1 + (round % 60));
    const frame = Buffer.concat([Buffer.alloc(4), body]);
    frame.writeUInt32BE(body.length, 0);
    try {
      new FrameDecoder().push(frame);
    } catch (error) {
      if (!(error instanceof GatewayError)) t.fail(`${body.toString('hex')}: ${String(error)}`);
    }
  }
});

t.test('a value nested a million deep is refused', async (t) => {
  const body = Buffer.alloc(MEBIBYTE, 0x91);
  const head = Buffer.alloc(4);
  head.writeUInt32BE(body.length);
  t.throws(() => new FrameDecoder().push(Buffer.concat([head, body])), { code: 'UNBD_CONTROLLER' });
});
