/**
 * Claim: reads start in their lanes' order, pauses grow with full jitter, retries have a budget,
 * and the number of parallel reads follows what the origin can do.
 */
import t from 'tap';
import { Lanes } from '../../src/protocols/source/lanes.ts';
import { ParallelLimit } from '../../src/protocols/source/parallel-limit.ts';
import { RetryBudget, RetryPause } from '../../src/protocols/source/retry-pause.ts';

const NO_LIMIT = { limitMs: Number.POSITIVE_INFINITY };

const ALL = { readAhead: true, background: true };
const URGENT = { readAhead: false, background: false };

interface Item {
  readonly name: string;
  urgent: boolean;
  readonly background: boolean;
  order: number;
}

function lanesOf(text: string) {
  const lanes = new Lanes<Item>();
  const items = [...text].map((name) => {
    const urgent = /[A-Z]/.test(name);
    const item = { name, urgent, background: /\d/.test(name), order: lanes.nextOrder() };
    lanes.add(item);
    return item;
  });
  const drain = () => {
    const names: string[] = [];
    for (;;) {
      const item = lanes.take(ALL);
      if (item === undefined) return names.join('');
      names.push(item.name);
    }
  };
  const named = (name: string): Item => {
    const item = items.find((one) => one.name === name);
    if (item === undefined) throw new Error(`no ${name}`);
    return item;
  };
  return { lanes, drain, named };
}

t.test('urgent ones first, in their order', async (t) => {
  t.equal(lanesOf('aBcDe').drain(), 'BDace');
});

t.test('read-ahead stays where it has no place', async (t) => {
  const { lanes } = lanesOf('aB');
  t.match(lanes.take(URGENT), { name: 'B' });
  t.equal(lanes.take(URGENT), undefined);
  t.equal(lanes.size, 1);
});

t.test('the background comes last, promoted with the urgent ones', async (t) => {
  t.equal(lanesOf('1aB2c').drain(), 'Bac12');
  const { lanes, drain, named } = lanesOf('1aB2c');
  lanes.promote(named('2'));
  t.match(lanes.take(URGENT), { name: 'B' });
  t.match(lanes.take(URGENT), { name: '2' });
  t.match(lanes.take({ readAhead: true, background: false }), { name: 'a' });
  t.match(lanes.take({ readAhead: true, background: false }), { name: 'c' });
  t.equal(lanes.take({ readAhead: true, background: false }), undefined);
  t.equal(lanes.size, 1);
  t.equal(drain(), '1');
});

t.test('what comes back stands where it stood', async (t) => {
  const { lanes, drain, named } = lanesOf('ABC');
  t.equal(lanes.take(ALL), named('A'));
  t.equal(lanes.take(ALL), named('B'));
  lanes.add(named('B'));
  lanes.add(named('A'));
  t.equal(drain(), 'ABC');
});

t.test('promoted: behind the urgent ones that wait, waiting itself or not', async (t) => {
  const { lanes, drain, named } = lanesOf('abCD');
  lanes.promote(named('b'));
  lanes.promote(named('C'));
  t.equal(lanes.remove(named('a')), true);
  t.equal(lanes.remove(named('a')), false);
  lanes.promote(named('a'));
  t.equal(lanes.size, 3, 'what does not wait is not put in');
  lanes.add(named('a'));
  t.equal(drain(), 'CDba');
});

t.test('nothing waits twice', async (t) => {
  const { lanes, named } = lanesOf('A');
  t.throws(() => lanes.add(named('A')), /waits already/);
});

t.test('pauses double up to 5 s, with full jitter', async (t) => {
  let chance = 1;
  const pause = new RetryPause(() => chance);
  const bounds = Array.from({ length: 8 }, () => pause.next(NO_LIMIT));
  t.strictSame(bounds, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
  chance = 0;
  t.equal(pause.next(NO_LIMIT), 0);
  pause.reset();
  chance = 0.5;
  t.equal(pause.next(NO_LIMIT), 50);
});

t.test('Retry-After is a minimum, within 60 s and the limit', async (t) => {
  const pause = new RetryPause(() => 1);
  t.equal(pause.next({ ...NO_LIMIT, retryAfterMs: 3_000 }), 3_000);
  t.equal(pause.next({ ...NO_LIMIT, retryAfterMs: 50 }), 200);
  t.equal(pause.next({ ...NO_LIMIT, retryAfterMs: 3_600_000 }), 60_000);
  t.equal(pause.next({ limitMs: 7_000, retryAfterMs: 3_600_000 }), 7_000);
  t.equal(pause.next({ limitMs: 0, retryAfterMs: 3_600_000 }), 1_600);
});

t.test('the longest pause has no jitter', async (t) => {
  t.equal(new RetryPause(() => 0).next({ ...NO_LIMIT, isLongest: true }), 5_000);
});

t.test('ten retries, and one more for ten successes', async (t) => {
  const budget = new RetryBudget();
  const take = (times: number) => Array.from({ length: times }, () => budget.take());
  for (let done = 0; done < 100; done += 1) budget.succeeded();
  t.strictSame(take(11), [...Array(10).fill(true), false], 'it does not grow above ten');
  for (let done = 0; done < 9; done += 1) budget.succeeded();
  t.strictSame(take(1), [false]);
  budget.succeeded();
  t.strictSame(take(2), [true, false]);
});

function succeed(limit: ParallelLimit, times: number): void {
  for (let done = 0; done < times; done += 1) limit.succeeded();
}

function answer(limit: ParallelLimit, times: number): void {
  for (let done = 0; done < times; done += 1) limit.answered();
}

t.test('one more per answer that begins, until the origin has had too much once', async (t) => {
  const limit = new ParallelLimit(10);
  t.equal(limit.all, 8);
  succeed(limit, 100);
  t.equal(limit.all, 8, 'each of these began before');
  answer(limit, 1);
  t.equal(limit.all, 9);
  answer(limit, 2);
  t.equal(limit.all, 10, 'the maximum');
});

t.test('then one more per window of as many successes as the limit', async (t) => {
  const limit = new ParallelLimit(6);
  limit.overloaded(5_000);
  t.equal(limit.all, 3);
  limit.overloaded(6_000);
  t.equal(limit.all, 1);
  succeed(limit, 1);
  answer(limit, 100);
  t.equal(limit.all, 2);
  succeed(limit, 1);
  t.equal(limit.all, 2);
  succeed(limit, 1);
  t.equal(limit.all, 3);
  succeed(limit, 3);
  t.equal(limit.all, 4);
  succeed(limit, 100);
  t.equal(limit.all, 6, 'the maximum');
});

t.test('halved once a second, to one at least', async (t) => {
  const limit = new ParallelLimit(16);
  const cut = (nowMs: number) => {
    limit.overloaded(nowMs);
    return limit.all;
  };
  t.equal(cut(5_000), 4);
  t.equal(cut(5_999), 4, 'the same moment');
  t.equal(cut(6_000), 2);
  t.equal(cut(7_000), 1);
  t.equal(cut(7_500), 1, 'the same moment');
  t.equal(cut(8_500), 1);
  succeed(limit, 1);
  t.equal(limit.all, 2);
  succeed(limit, 1);
  cut(9_500);
  t.equal(limit.all, 1, 'and the window begins anew');
});

t.test('read-ahead has three quarters, one at least', async (t) => {
  const limit = new ParallelLimit(16);
  t.equal(limit.readAhead, 6);
  answer(limit, 100);
  t.strictSame([limit.all, limit.readAhead], [16, 12]);
  t.strictSame([new ParallelLimit(2).readAhead, new ParallelLimit(1).readAhead], [1, 1]);
  t.throws(() => new ParallelLimit(0));
});
