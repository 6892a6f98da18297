/**
 * Claim: a steady source holds its reads through an outage with one attempt per pause, fails them
 * when the hold is over, comes back by itself, and never serves another object.
 */
import t from 'tap';
import { settled } from '../support/fake-clock.ts';
import { steady } from '../support/scripted-source.ts';

const GONE = 'UNBD_BACKEND_UNREACHABLE';
const CHANGED = 'UNBD_OBJECT_CHANGED';

t.test('a network failure holds at once', async (t) => {
  for (const code of [GONE, 'UNBD_BACKEND_TIMEOUT', 'UNBD_BACKEND_UNKNOWN_HOST'] as const) {
    const { source, events, ask } = steady();
    ask(0);
    await source.last.fail(code);
    t.strictSame(events, [{ state: 'HOLDING', text: `failed by ${code}` }]);
  }
});

t.test('two failures in a row hold, if nothing landed in between', async (t) => {
  const { clock, source, states, ask } = steady();
  ask(0);
  await source.last.fail('UNBD_BACKEND_IO');
  t.strictSame(states(), []);
  await clock.advance(100);
  await source.last.fail('UNBD_BACKEND_IO');
  t.strictSame(states(), ['HOLDING']);
});

t.test('a range that alone fails holds nobody, and is given up after the hold', async (t) => {
  const { clock, source, states, ask } = steady({ holdMs: 10_000 });
  const bad = ask(0);
  for (let at = 1; bad.outcome === 'waiting' && at < 20; at += 1) {
    await source.last.fail('UNBD_BACKEND_IO');
    const good = ask(at * 4096);
    await source.last.succeed();
    t.equal(good.outcome, 'done');
    await clock.advance(5_000);
  }
  t.equal(bad.outcome, 'UNBD_BACKEND_IO');
  t.strictSame(states(), []);
  t.equal(clock.timers, 0);
});

t.test('one attempt per pause, others wait, and a byte ends it', async (t) => {
  const { clock, source, events, ask } = steady();
  const asked = [0, 1, 2].map((at) => ask(at));
  await source.attempts[0]?.fail(GONE);
  await source.attempts[1]?.fail(GONE);
  await source.attempts[2]?.fail(GONE);
  asked.push(ask(3), ask(4, { urgent: false }));
  t.equal(source.attempts.length, 3, 'a new one waits as well');
  const pauses = [100, 200, 400, 800];
  for (const [at, pauseMs] of pauses.entries()) {
    await clock.advance(pauseMs - 1);
    t.equal(source.open.length, 0);
    await clock.advance(1);
    t.equal(source.open.length, 1, `attempt ${at}`);
    if (at < pauses.length - 1) await source.last.fail(GONE);
  }
  await clock.advance(5_000);
  t.equal(source.open.length, 1, 'while one tries no other does');
  source.last.land(1);
  t.match(events, [
    { state: 'HOLDING' },
    { state: 'CONNECTED', text: 'the backend answers again after 6500 ms, 5 reads had waited' },
  ]);
  t.equal(source.open.length, 5, 'all that may run, by now one more');
  await clock.advance(0);
  while (source.open.length > 0) await source.open[0]?.succeed();
  await clock.advance(5_000);
  while (source.open.length > 0) await source.open[0]?.succeed();
  t.strictSame(new Set(asked.map(({ outcome }) => outcome)), new Set(['done']));
  t.equal(clock.timers, 0);
});

t.test('the oldest urgent one tries; after it failed, the next', async (t) => {
  const { clock, source, ask } = steady({ maximumParallel: 1 });
  ask(0);
  ask(5, { urgent: false });
  ask(1);
  await source.last.fail(GONE);
  await clock.advance(100);
  t.equal(source.last.read.offsetBytes, 0);
  await source.last.fail(GONE);
  await clock.advance(200);
  t.equal(source.last.read.offsetBytes, 1, 'a range that cannot be read keeps nobody away');
});

t.test('one that was running before may end the hold', async (t) => {
  const { clock, source, states, ask } = steady();
  ask(0);
  ask(1);
  await source.attempts[0]?.fail(GONE);
  t.strictSame(states(), ['HOLDING']);
  source.attempts[1]?.land(1);
  t.strictSame(states(), ['HOLDING', 'CONNECTED']);
  await clock.advance(100);
  t.strictSame(source.offsets, [0, 1, 0]);
});

t.test("one that ended a hold and still runs is in nobody's way in the next", async (t) => {
  const { clock, source, states, ask } = steady();
  ask(0);
  await source.last.fail(GONE);
  await clock.advance(100);
  source.last.land(1);
  ask(1);
  await source.last.fail(GONE);
  await clock.advance(100);
  t.strictSame(source.offsets, [0, 0, 1, 1]);
  t.strictSame(states(), ['HOLDING', 'CONNECTED', 'HOLDING']);
});

t.test('one that is called off while it tries costs a pause too', async (t) => {
  const { clock, source, ask } = steady();
  const first = ask(0);
  await source.last.fail(GONE);
  ask(1);
  await clock.advance(100);
  first.abort();
  await settled();
  t.strictSame([first.outcome, source.attempts.length], ['UNBD_INTERRUPTED', 2]);
  await clock.advance(199);
  t.equal(source.attempts.length, 2);
  await clock.advance(1);
  t.strictSame(source.offsets, [0, 0, 1]);
});

t.test('after the hold all reads fail at once, and a probe brings it back', async (t) => {
  const { clock, source, events, states, ask } = steady({ holdMs: 10_000 });
  const asked = [ask(0), ask(1), ask(2, { urgent: false })];
  await source.attempts[0]?.fail(GONE);
  asked.push(ask(3));
  await clock.advance(9_999);
  t.equal(source.last.isOpen, true);
  t.ok(asked.every(({ outcome }) => outcome === 'waiting'));
  await clock.advance(1);
  await settled();
  t.strictSame(states(), ['HOLDING', 'FAILING']);
  t.match(events[1]?.text, /^the backend did not come back within 10 s: failed by/);
  asked.push(ask(4));
  await settled();
  for (const { outcome } of asked) t.equal(outcome, 'UNBD_BACKEND_IO');
  const before = source.attempts.length;
  t.equal(source.open.length, 0);
  await clock.advance(5_000);
  t.equal(source.attempts.length, before + 1);
  t.match(source.last.read, { offsetBytes: 0, urgent: true });
  t.equal(source.last.read.into.length, 512);
  await source.last.fail(GONE, { retryAfterMs: 20_000 });
  await clock.advance(19_999);
  t.equal(source.open.length, 0, 'with the back-off');
  await clock.advance(1);
  await source.last.succeed();
  t.strictSame(states(), ['HOLDING', 'FAILING', 'CONNECTED']);
  t.equal(clock.timers, 0);
  const late = ask(9);
  await source.last.succeed();
  t.equal(late.outcome, 'done');
  ask(10);
  await source.last.fail(GONE);
  t.strictSame(states().slice(3), ['HOLDING'], 'and it can hold again');
});

t.test('a small object is probed by what it has', async (t) => {
  const { clock, source, states, ask } = steady({ holdMs: 0, size: 100n });
  const asked = ask(0, { lengthBytes: 100 });
  await source.last.fail(GONE);
  t.strictSame(states(), ['FAILING'], 'no hold at all');
  t.equal(asked.outcome, 'UNBD_BACKEND_IO');
  await clock.advance(100);
  t.equal(source.last.read.into.length, 100);
});

t.test('Retry-After ends with the hold', async (t) => {
  const { clock, source, states, ask } = steady({ holdMs: 30_000 });
  ask(0);
  await source.last.fail(GONE);
  await clock.advance(100);
  await source.last.fail('UNBD_BACKEND_IO', { retryAfterMs: 10_000 });
  await clock.advance(9_999);
  t.equal(source.open.length, 0);
  await clock.advance(1);
  await source.last.fail('UNBD_BACKEND_IO', { retryAfterMs: 50_000 });
  await clock.advance(19_899);
  t.strictSame(states(), ['HOLDING']);
  await clock.advance(1);
  t.strictSame(states(), ['HOLDING', 'FAILING']);
});

t.test('a hold without end never fails', async (t) => {
  const { clock, source, states, ask } = steady({ holdMs: -1 });
  const asked = ask(0);
  for (let day = 0; day < 100; day += 1) {
    await source.last.fail(GONE);
    await clock.advance(86_400_000);
  }
  t.strictSame(states(), ['HOLDING']);
  await source.last.succeed();
  t.equal(asked.outcome, 'done');
});

t.test('another object is FATAL for ever', async (t) => {
  const { clock, source, events, ask } = steady();
  source.isDeaf = true;
  const asked = [0, 1, 2, 3, 4].map((at) => ask(at));
  await source.attempts[1]?.fail('UNBD_BACKEND_IO');
  await source.attempts[0]?.fail(CHANGED);
  for (const attempt of source.open) await attempt.fail(CHANGED);
  asked.push(ask(5));
  await settled();
  for (const { outcome } of asked) t.equal(outcome, CHANGED);
  t.strictSame(events, [{ state: 'FATAL', text: `failed by ${CHANGED} (ESTALE)` }]);
  const before = source.attempts.length;
  await clock.advance(600_000);
  t.strictSame([source.attempts.length, source.open.length, clock.timers], [before, 0, 0]);
});

t.test('a probe that finds another object is FATAL and stops', async (t) => {
  const { clock, source, states, ask } = steady({ holdMs: 0 });
  ask(0);
  await source.last.fail(GONE);
  await clock.advance(100);
  await source.last.fail(CHANGED);
  const asked = ask(1);
  await clock.advance(600_000);
  t.strictSame([asked.outcome, source.attempts.length, clock.timers], [CHANGED, 2, 0]);
  t.strictSame(states(), ['FAILING', 'FATAL']);
});

t.test('close ends a hold and a probe without a word', async (t) => {
  for (const holdMs of [0, 60_000]) {
    for (const isTrying of [false, true]) {
      const { subject, clock, source, states, ask } = steady({ holdMs });
      ask(0);
      await source.last.fail(GONE);
      if (isTrying) await clock.advance(100);
      await subject.close();
      await settled();
      t.equal(clock.timers, 0);
      await clock.advance(600_000);
      t.strictSame([states().length, source.open.length, clock.timers], [1, 0, 0]);
    }
  }
});
