/**
 * Claim: a steady source goes on from the byte where a read stopped, in its lanes and within its
 * limit.
 */
import t from 'tap';
import { byteAt, steady } from '../support/scripted-source.ts';

const CLOSED = 'UNBD_BACKEND_CLOSED';

t.test('it goes on from the byte where it stopped', async (t) => {
  const { clock, source, events, ask } = steady();
  const asked = ask(8192);
  source.last.land(1000);
  await source.last.fail(CLOSED);
  t.equal(source.attempts.length, 1, 'not without a pause');
  await clock.advance(99);
  t.equal(source.attempts.length, 1);
  await clock.advance(1);
  t.strictSame(source.offsets, [8192, 9192]);
  t.equal(source.last.read.into.length, 3096);
  source.last.land(1000);
  await source.last.succeed();
  t.equal(asked.outcome, 'done');
  t.strictSame(asked.landed, [1000, 2000, 4096], 'from the start of the whole read');
  t.ok(asked.into.every((byte, at) => byte === byteAt(8192 + at)));
  t.strictSame(events, [], 'one failure is no outage');
  t.equal(clock.timers, 0);
});

t.test('info and identity are those of the source', async (t) => {
  const { subject, source } = steady();
  t.equal(subject.info, source.info);
  t.equal(subject.identity, source.identity);
});

t.test('what has landed wholly is right, whatever came after', async (t) => {
  const { source, ask } = steady();
  const asked = ask(0);
  source.last.land(4096);
  await source.last.fail(CLOSED);
  t.equal(asked.outcome, 'done');
  t.equal(source.attempts.length, 1);
});

t.test('a source that resolves has landed all, and landed() does not shrink', async (t) => {
  const { source, ask } = steady();
  const asked = ask(0);
  source.last.land(100);
  source.last.read.landed(50);
  await source.last.resolveOnly();
  t.strictSame(asked.landed, [100, 4096]);
  t.equal(asked.outcome, 'done');
});

t.test('progress resets the pause; without it the pause doubles', async (t) => {
  const { clock, source, ask } = steady({ holdMs: -1 });
  ask(0);
  for (const pauseMs of [100, 100]) {
    source.last.land(10);
    await source.last.fail(CLOSED);
    await clock.advance(pauseMs);
  }
  t.strictSame(source.offsets, [0, 10, 20]);
  const other = ask(1 << 20);
  const [first, second] = source.open;
  await first?.fail(CLOSED);
  second?.land(1);
  await clock.advance(100);
  t.strictSame(source.offsets, [0, 10, 20, 1 << 20, 20]);
  second?.land(2);
  await source.last.fail(CLOSED);
  await clock.advance(199);
  t.equal(source.attempts.length, 5);
  await clock.advance(1);
  t.equal(source.attempts.length, 6);
  t.equal(other.outcome, 'waiting');
});

t.test('Retry-After is waited for, 60 s and the hold at most', async (t) => {
  for (const [holdMs, pauseMs] of [
    [-1, 60_000],
    [20_000, 20_000],
    [0, 100],
  ] as const) {
    const { clock, source, ask } = steady({ holdMs });
    ask(0);
    await source.last.fail('UNBD_BACKEND_IO', { retryAfterMs: 3_600_000, isOverload: true });
    await clock.advance(pauseMs - 1);
    t.equal(source.attempts.length, 1);
    await clock.advance(1);
    t.equal(source.attempts.length, 2, `after ${pauseMs} ms`);
  }
});

t.test('with the budget spent a retry waits for the longest pause', async (t) => {
  const { clock, source, states, ask } = steady({ holdMs: -1 });
  for (let at = 0; at < 11; at += 1) {
    ask(at * 4096);
    await source.last.fail(CLOSED);
  }
  await clock.advance(4_999);
  t.equal(source.open.length, 8, 'as many as may run at once');
  for (let at = 0; at < 10; at += 1) await source.open[0]?.succeed();
  t.equal(source.attempts.length, 21);
  await clock.advance(1);
  t.equal(source.attempts.length, 22);
  t.equal(source.last.read.offsetBytes, 10 * 4096);
  t.strictSame(states(), []);
});

t.test('urgent ones start first, and read-ahead has three quarters of the places', async (t) => {
  const { source, ask } = steady();
  for (let at = 0; at < 8; at += 1) ask(at, { urgent: false });
  t.strictSame(source.offsets, [0, 1, 2, 3, 4, 5], 'two of eight places are kept');
  for (let at = 100; at < 104; at += 1) ask(at);
  t.strictSame(source.offsets.slice(6), [100, 101]);
  await source.attempts[6]?.succeed();
  t.strictSame(source.offsets.slice(8), [102, 103], 'its place, and one for its answer');
  await source.attempts[0]?.succeed();
  t.strictSame(source.offsets.slice(10), [6, 7], 'read-ahead when nothing urgent waits');
});

t.test('the background has half of the places, and none that read-ahead wants', async (t) => {
  const { subject, source, ask } = steady();
  const later = [10, 11, 12, 13, 14, 15].map((at) => ask(at, { urgent: false, background: true }));
  t.strictSame(source.offsets, [10, 11, 12, 13]);
  for (let at = 0; at < 3; at += 1) ask(at, { urgent: false });
  t.strictSame(source.offsets.slice(4), [0, 1], 'three quarters are for all that nobody waits for');
  await source.attempts[0]?.succeed();
  t.strictSame(source.offsets.slice(6), [2], 'read-ahead first');
  const last = later.at(-1);
  if (last !== undefined) subject.promote(last.read);
  t.strictSame(source.offsets.slice(7), [15], 'and before it what somebody waits for');
});

t.test('a promoted read starts as an urgent one', async (t) => {
  const { subject, source, ask } = steady({ maximumParallel: 4 });
  const asked = [0, 1, 2, 3, 4].map((at) => ask(at, { urgent: false }));
  t.equal(source.attempts.length, 3);
  const [running, , , , last] = asked;
  if (running === undefined || last === undefined) throw new Error('not asked');
  subject.promote(last.read);
  t.strictSame(source.offsets, [0, 1, 2, 4]);
  t.equal(source.last.read.urgent, true);
  subject.promote(running.read);
  await source.last.succeed();
  t.strictSame(source.offsets, [0, 1, 2, 4, 3], 'one that runs leaves its place to another');
  subject.promote(last.read);
  t.equal(source.attempts.length, 5, 'a settled one is nothing');
});

t.test('the limit grows with answers, and halves on overload or a timeout', async (t) => {
  for (const failure of ['UNBD_BACKEND_IO', 'UNBD_BACKEND_TIMEOUT'] as const) {
    const { clock, source, ask } = steady({ holdMs: -1 });
    for (let at = 0; at < 40; at += 1) ask(at);
    for (let done = 0; done < 4; done += 1) await source.open[0]?.succeed();
    t.equal(source.open.length, 12);
    await source.open[0]?.fail(failure, { isOverload: failure === 'UNBD_BACKEND_IO' });
    await source.open[0]?.fail(failure, { isOverload: failure === 'UNBD_BACKEND_IO' });
    t.equal(source.open.length, 10, 'none starts, and the second is of the same moment');
    for (const left of [9, 8, 7, 6, 6]) {
      await source.open[0]?.succeed();
      t.equal(source.open.length, left);
    }
    await source.open[0]?.succeed();
    t.equal(source.open.length, 7, 'and it grows again');
    await clock.advance(0);
  }
});

t.test('never more at once than the maximum', async (t) => {
  const { source, ask } = steady({ maximumParallel: 2 });
  for (let at = 0; at < 100; at += 1) ask(at);
  for (let done = 0; done < 50; done += 1) {
    t.equal(source.open.length, 2);
    await source.open[0]?.succeed();
  }
});
