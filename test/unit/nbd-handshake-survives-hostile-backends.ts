/**
 * Goal: whatever a backend does during the handshake, the user gets a device or one clear line
 * with the right code, the connection is closed, and no more is read than the protocol allows.
 * Method: every fault of the tables against the real handshake, whole and one byte at a time.
 */
import t, { type Test } from 'tap';
import { GatewayError } from '../../src/protocols/errors.ts';
import { checkGeometry } from '../../src/protocols/geometry.ts';
import { exportInfo, negotiate } from '../../src/protocols/nbd/handshake.ts';
import { type Expected, type HandshakeFault, WORKS } from '../support/scripted-nbd-faults.ts';
import { handshakeFaults } from '../support/scripted-nbd-handshake-faults.ts';
import { listFaults } from '../support/scripted-nbd-list-faults.ts';
import { playInMemory } from '../support/scripted-nbd-pair.ts';
import type { TestStream } from '../support/scripted-nbd-stream.ts';

// Hundreds of connections; a busy machine needs longer than the default.
t.setTimeout(120_000);

type Attempt = (stream: TestStream, timeoutMs: number) => Promise<unknown>;

const connectWith =
  (structuredReplies: boolean): Attempt =>
  async (stream, timeoutMs) => {
    const { info } = await negotiate(stream, { exportName: '', timeoutMs, structuredReplies });
    try {
      checkGeometry(info, 0, `the export of backend ${stream.peer}`);
    } catch (error) {
      // The stream is the caller's by now.
      stream.close();
      throw error;
    }
  };

const inform: Attempt = (stream, timeoutMs) => exportInfo(stream, { exportName: '', timeoutMs });

async function outcome(
  attempt: Attempt,
  stream: TestStream,
  expected: Expected,
): Promise<GatewayError | 'works'> {
  try {
    // A fault that is not about time must be noticed without the help of the deadline.
    await attempt(stream, expected.code === 'UNBD_BACKEND_TIMEOUT' ? 200 : 20_000);
    return 'works';
  } catch (error) {
    if (error instanceof GatewayError) return error;
    throw error;
  }
}

function holds(test: Test, found: GatewayError | 'works', expected: Expected): void {
  if (found === 'works' || expected.code === 'works') {
    test.equal(found === 'works' ? found : found.line, expected.code);
    return;
  }
  test.equal(found.code, expected.code, found.line);
  test.match(found.line, expected.text ?? /./);
  test.match(found.message, /test:1/, 'names the peer');
  test.notMatch(found.line, /[\p{Cc}\p{Bidi_Control}]/u, 'is one clean line');
  test.ok(found.hint, 'says what mends it');
}

function table(name: string, faults: readonly HandshakeFault[], attempt: Attempt): void {
  t.test(name, async (t) => {
    for (const fault of faults) {
      t.test(fault.name, async (t) => {
        for (const pieceBytes of [Number.POSITIVE_INFINITY, 1]) {
          const { stream, script } = playInMemory(fault, { pieceBytes });
          const found = await outcome(attempt, stream, fault.expected);
          holds(t, found, fault.expected);
          if (found !== 'works') t.ok(stream.closed, 'closes the connection');
          t.ok(stream.largestRecvBytes <= 4100, 'reads a field at a time');
          stream.close();
          await script;
        }
      });
    }
  });
}

const notAsked = handshakeFaults.map((fault) =>
  fault.hitsStructuredReplies === true ? { ...fault, expected: WORKS } : fault,
);
table('connect', notAsked, connectWith(false));
table('connect that asks for structured replies', handshakeFaults, connectWith(true));
table('info', listFaults, inform);
