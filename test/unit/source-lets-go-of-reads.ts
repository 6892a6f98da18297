/**
 * Claim: a steady source settles every read once and lets go of it: after an abort, a fault or
 * close nothing is told of it, nothing is asked for, and no timer is left.
 */
import t from 'tap';
import { systemClock } from '../../src/protocols/source/clock.ts';
import type { SourceEvent } from '../../src/protocols/source/hold.ts';
import { SteadySource } from '../../src/protocols/source/steady-source.ts';
import { FakeClock, settled } from '../support/fake-clock.ts';
import { ScriptedSource, steady } from '../support/scripted-source.ts';

const CLOSED = 'UNBD_BACKEND_CLOSED';

t.test('an abort rejects a read wherever it is, and frees its place', async (t) => {
  const { clock, source, ask } = steady({ maximumParallel: 1 });
  const running = ask(0);
  const queued = ask(1);
  const next = ask(2);
  queued.abort();
  await settled();
  t.equal(queued.outcome, 'UNBD_INTERRUPTED');
  running.abort();
  await settled();
  t.equal(running.outcome, 'UNBD_INTERRUPTED');
  t.strictSame(source.offsets, [0, 2]);
  await source.last.fail(CLOSED);
  t.equal(clock.timers, 1);
  next.abort();
  await settled();
  t.equal(next.outcome, 'UNBD_INTERRUPTED', 'while it pauses');
  t.equal(clock.timers, 0);
  const { subject } = steady();
  const into = new Uint8Array(1);
  const signal = AbortSignal.abort();
  const late = { offsetBytes: 0, into, urgent: true, signal, landed: () => undefined };
  await t.rejects(subject.read(late), { code: 'UNBD_INTERRUPTED' });
});

t.test('it rejects when the source has let go of the buffer, and nothing is told', async (t) => {
  const { source, ask } = steady();
  source.isDeaf = true;
  const asked = ask(0);
  source.last.land(100);
  asked.abort();
  source.last.land(200);
  await settled();
  t.equal(asked.outcome, 'waiting', 'the source could still write');
  await source.last.fail(CLOSED);
  t.equal(asked.outcome, 'UNBD_INTERRUPTED');
  source.last.read.landed(300);
  t.strictSame(asked.landed, [100]);
  t.equal(source.attempts.length, 1);
});

t.test('landed() of an attempt that failed is not heard', async (t) => {
  const { clock, source, ask } = steady();
  const asked = ask(0);
  const first = source.last;
  await first.fail(CLOSED);
  first.read.landed(4096);
  await clock.advance(100);
  first.read.landed(4096);
  t.strictSame(asked.landed, []);
  t.equal(asked.outcome, 'waiting');
});

t.test('what is not a SourceError is a fault, and is not tried again', async (t) => {
  const { clock, source, states, ask } = steady();
  const asked = ask(0);
  await source.last.failWith(new TypeError('undefined is not a function'));
  t.equal(asked.outcome, 'UNBD_INTERNAL');
  t.equal(clock.timers, 0);
  t.strictSame(states(), []);
});

t.test('reads that wait are bounded', async (t) => {
  const { subject, source, ask } = steady();
  for (let at = 0; at < 8 + 1024; at += 1) ask(at);
  t.equal(source.attempts.length, 8);
  t.throws(() => ask(9999), /bounded/);
  await subject.close();
});

t.test('after close everything rejects, and no timer is left', async (t) => {
  const { subject, clock, source, ask } = steady({ maximumParallel: 1 });
  const pausing = ask(0);
  await source.last.fail(CLOSED);
  const running = ask(1);
  const queued = ask(2);
  t.equal(clock.timers, 1);
  await subject.close();
  await settled();
  const late = ask(3);
  await settled();
  for (const { outcome } of [pausing, running, queued, late]) t.equal(outcome, CLOSED);
  t.equal(clock.timers, 0);
  t.equal(source.attempts.length, 2);
  t.equal(source.closes, 1);
});

t.test('who is told may close it', async (t) => {
  for (const holdMs of [0, 60_000]) {
    const clock = new FakeClock();
    const { now, random, timer } = clock;
    const source = new ScriptedSource(4096n);
    const states: string[] = [];
    const told = ({ state }: SourceEvent) => {
      states.push(state);
      void subject.close();
    };
    const subject = new SteadySource(source, { holdMs, now, random, timer, told });
    const { signal } = new AbortController();
    const into = new Uint8Array(512);
    const read = { offsetBytes: 0, into, urgent: true, signal, landed: () => undefined };
    const done = t.rejects(subject.read(read));
    await source.last.fail('UNBD_BACKEND_UNREACHABLE');
    await done;
    t.strictSame([states.length, clock.timers, source.closes], [1, 0, 1]);
  }
});

t.test('the clock of the system calls once, or not at all', async (t) => {
  const calls: string[] = [];
  systemClock.timer(0, () => calls.push('taken back'))();
  await new Promise<void>((resolve) => systemClock.timer(1, resolve));
  systemClock.timer(1e12, () => calls.push('too long for Node'))();
  t.strictSame(calls, []);
  t.ok(systemClock.now() > 0 && systemClock.random() < 1);
});
