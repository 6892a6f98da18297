/**
 * Claim: a connection that drips while others do better is left, and the rest is asked for again
 * from the byte where it stopped; an origin that is slow for everybody is waited for, and no read
 * fails for being slow.
 * Method: a steady source over a scripted one, by a clock that the test moves; at the end over a
 * server of the test's own that drips on its first connection.
 */
import t from 'tap';
import { SteadySource } from '../../src/protocols/source/steady-source.ts';
import {
  OBJECT,
  openLazily,
  rangeOf,
  rawOrigin,
  rawRange,
  readRange,
} from '../support/http-origin.ts';
import { type Attempt, byteAt, steady } from '../support/scripted-source.ts';

/** As long as a connection is watched. */
const WINDOW_MS = 10_000;
const STEP_MS = 500;

type Clock = ReturnType<typeof steady>['clock'];

/** Lands `bytesPerS` of each attempt, in steps of half a second. */
async function flow(clock: Clock, forMs: number, rates: readonly [Attempt, number][]) {
  const landed = rates.map(() => 0);
  for (let atMs = 0; atMs < forMs; atMs += STEP_MS) {
    for (const [index, [attempt, bytesPerS]] of rates.entries()) {
      if (!attempt.isOpen) continue;
      landed[index] = (landed[index] ?? 0) + (bytesPerS * STEP_MS) / 1000;
      attempt.land(landed[index] ?? 0);
    }
    await clock.advance(STEP_MS);
  }
}

const MIB = 1 << 20;

function opened({ source }: ReturnType<typeof steady>, at: number): Attempt {
  const attempt = source.attempts[at];
  if (attempt === undefined) throw new Error(`attempt ${at} was not made`);
  return attempt;
}

t.test('one that drips beside a quick one is asked for again from where it stopped', async (t) => {
  const world = steady();
  const slow = world.ask(0, { lengthBytes: MIB });
  world.ask(MIB, { lengthBytes: MIB });
  await flow(world.clock, WINDOW_MS + STEP_MS, [
    [opened(world, 0), 1000],
    [opened(world, 1), 40_000],
  ]);
  t.equal(world.source.attempts.length, 3);
  t.equal(opened(world, 0).isOpen, false, 'it was left');
  t.equal(opened(world, 1).isOpen, true);
  t.equal(world.source.last.read.offsetBytes, slow.landed.at(-1), 'from the next byte on');
  await world.source.last.succeed();
  t.equal(slow.outcome, 'done');
  t.ok(slow.into.every((byte, at) => byte === byteAt(at)));
  t.strictSame(world.events, [], 'the origin was never away');
});

t.test('an origin that is slow for everybody is waited for', async (t) => {
  const world = steady();
  const asked = [0, 1, 2, 3].map((at) => world.ask(at * MIB, { lengthBytes: MIB }));
  const rates = [1000, 1500, 1000, 2000] as const;
  await flow(
    world.clock,
    WINDOW_MS * 6,
    rates.map((rate, at) => [opened(world, at), rate]),
  );
  t.equal(world.source.attempts.length, 4);
  t.strictSame(
    asked.map(({ outcome }) => outcome),
    Array(4).fill('waiting'),
  );
  t.strictSame(world.events, []);
});

t.test('one of the minimum speed is left alone, however quick others are', async (t) => {
  const world = steady();
  world.ask(0, { lengthBytes: MIB });
  world.ask(16 * MIB, { lengthBytes: 16 * MIB });
  await flow(world.clock, WINDOW_MS * 3, [
    [opened(world, 0), 4800],
    [opened(world, 1), 500_000],
  ]);
  t.equal(world.source.attempts.length, 2);
});

t.test('one that is alone tries others, ever more rarely, and never fails', async (t) => {
  const world = steady();
  const slow = world.ask(0, { lengthBytes: MIB });
  const attempts: number[] = [];
  for (let window = 0; window < 16; window += 1) {
    await flow(world.clock, WINDOW_MS, [[world.source.last, 100]]);
    attempts.push(world.source.attempts.length);
  }
  t.equal(attempts.at(1), 2, 'nothing tells whether another one would be better');
  t.ok((attempts.at(-1) ?? 0) >= 4 && (attempts.at(-1) ?? 0) <= 5, attempts.join(' '));
  t.equal(slow.outcome, 'waiting');
  t.strictSame(world.events, []);
});

t.test('silence is not judged here', async (t) => {
  const world = steady();
  world.ask(0, { lengthBytes: MIB });
  world.ask(MIB, { lengthBytes: MIB });
  opened(world, 0).land(10);
  await flow(world.clock, WINDOW_MS * 2, [[opened(world, 1), 30_000]]);
  t.equal(world.source.attempts.length, 2, 'whoever has the connection knows its timeout');
});

t.test('a read that was left drips no more once it is settled, and leaves no timer', async (t) => {
  const world = steady();
  const slow = world.ask(0, { lengthBytes: MIB });
  await flow(world.clock, WINDOW_MS + STEP_MS, [[opened(world, 0), 100]]);
  t.equal(world.source.attempts.length, 2);
  slow.abort();
  await world.clock.advance(0);
  t.equal(slow.outcome, 'UNBD_INTERRUPTED');
  t.equal(world.clock.timers, 0);
});

t.test('an abort while it is being left is obeyed', async (t) => {
  const world = steady();
  const slow = world.ask(0, { lengthBytes: MIB });
  world.source.isDeaf = true;
  await flow(world.clock, WINDOW_MS + STEP_MS, [[opened(world, 0), 100]]);
  opened(world, 1).land(5000);
  await flow(world.clock, WINDOW_MS * 2 + STEP_MS, [[opened(world, 1), 100]]);
  slow.abort();
  await opened(world, 1).fail('UNBD_BACKEND_TIMEOUT');
  t.equal(slow.outcome, 'UNBD_INTERRUPTED');
  t.equal(world.source.attempts.length, 2);
});

t.test('the rest comes by another connection, and every byte is right', async (t) => {
  const ranges: (readonly [number, number])[] = [];
  const base = await rawOrigin(t, (socket, head, count) => {
    ranges.push(rangeOf(head.toLowerCase()));
    const answer = rawRange(head);
    if (count > 0) {
      socket.write(answer);
      return;
    }
    let sent = answer.indexOf('\r\n\r\n') + 4;
    socket.write(answer.subarray(0, sent));
    const drip = setInterval(() => {
      socket.write(answer.subarray(sent, sent + 8));
      sent += 8;
    }, 20);
    socket.once('close', () => clearInterval(drip));
  });
  const plain = await openLazily(t, `${base}/image`);
  const source = new SteadySource(plain, { holdMs: 0, slowForMs: 300, told: () => undefined });
  const { line, into } = await readRange(source, 0, 4096);
  t.equal(line, '');
  t.strictSame(into, OBJECT);
  t.equal(ranges.length, 2);
  const [first, last] = ranges[1] ?? [0, 0];
  t.ok(first > 0 && first % 8 === 0 && last === 4095, `bytes ${first}-${last} were asked for`);
});
