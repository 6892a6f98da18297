/**
 * Claim: a cache on disk takes nothing more while less than 5 % of its file system is free, each
 * change is told once, and nothing about that file system can throw.
 * Method: the watch over a file system and a clock by hand.
 */
import t from 'tap';
import { type Room, watchRoom } from '../../src/gateway/cache-room.ts';
import { FakeClock, settled } from '../support/fake-clock.ts';

function begin(first: Room | Error) {
  const clock = new FakeClock();
  const allowed: boolean[] = [];
  const lines: [level: string, text: string][] = [];
  const state = { room: first, asked: [] as string[] };
  const stop = watchRoom({
    directory: '/srv/cache',
    // It is told at each look; what changes counts here.
    allow: (value) => {
      if (value !== allowed.at(-1)) allowed.push(value);
    },
    log: (level, text) => void lines.push([level, text]),
    readRoom: async (path) => {
      state.asked.push(path);
      if (state.room instanceof Error) throw state.room;
      return state.room;
    },
    timer: clock.timer,
  });
  return { clock, allowed, lines, state, stop };
}

t.test('below the floor nothing is added, above it something again', async (t) => {
  const { clock, allowed, lines, state, stop } = begin({ blocks: 1000, bavail: 50 });
  await settled();
  t.strictSame(state.asked, ['/srv/cache'], 'it looks at once');
  t.strictSame(allowed, [true], '5 % is enough');
  state.room = { blocks: 1000, bavail: 49 };
  await clock.advance(4_999);
  t.equal(state.asked.length, 1);
  await clock.advance(1);
  await clock.advance(20_000);
  t.strictSame(allowed, [true, false]);
  t.equal(state.asked.length, 6);
  state.room = { blocks: 1000, bavail: 50 };
  await clock.advance(10_000);
  t.strictSame(allowed, [true, false, true]);
  const free = "of /srv/cache's file system is free";
  t.strictSame(lines, [
    [
      'warning',
      `the cache on disk takes no more: less than 5 % ${free}; images are served all the same`,
    ],
    ['info', `the cache on disk takes more again: 5 % ${free}`],
  ]);
  stop();
  t.equal(clock.timers, 0);
});

t.test('a file system that does not tell changes nothing', async (t) => {
  const { clock, allowed, lines, state, stop } = begin(new Error('EIO'));
  await clock.advance(10_000);
  state.room = { blocks: 0, bavail: 0 };
  await clock.advance(10_000);
  t.strictSame([allowed, lines], [[true], []]);
  t.equal(state.asked.length, 5, 'it is asked again all the same');
  stop();
});

t.test('after its end the watch tells nothing, whatever it has asked', async (t) => {
  const { clock, allowed, state, stop } = begin({ blocks: 1000, bavail: 0 });
  stop();
  await settled();
  await clock.advance(20_000);
  t.strictSame(allowed, []);
  t.equal(state.asked.length, 1);
});

t.test('it looks at a real file system, and keeps no process alive', async (t) => {
  const lines: string[] = [];
  const log = (_level: string, text: string) => void lines.push(text);
  const allow = () => undefined;
  t.doesNotThrow(() => watchRoom({ directory: '/nowhere/at/all', allow, log }));
  t.doesNotThrow(() => watchRoom({ directory: t.testdir(), allow, log }));
});
