/**
 * Claim: while there are devices one spare server process is ready; it is handed out once, only
 * when it answers, and none is launched again and again that fails.
 * Method: SpareKeeper over launches and a clock of the test's own.
 */
import t from 'tap';
import type { ReadyProcess } from '../../src/gateway/launch-for-device.ts';
import { SpareKeeper } from '../../src/gateway/spare.ts';

interface World {
  readonly keeper: SpareKeeper;
  readonly killed: string[];
  launches: number;
  wanted: boolean;
  nowMs: number;
  answers: boolean;
  fails: boolean;
}

function world(): World {
  const it: World = {
    keeper: new SpareKeeper(
      async () => {
        it.launches += 1;
        if (it.fails) throw new Error('it cannot be launched');
        return ready(it, `spare ${it.launches}`);
      },
      () => it.wanted,
      () => it.nowMs,
    ),
    killed: [],
    launches: 0,
    wanted: true,
    nowMs: 1_000_000,
    answers: true,
    fails: false,
  };
  return it;
}

function ready(it: World, token: string): ReadyProcess {
  const request = async () => {
    if (!it.answers) throw new Error('no answer');
    return null;
  };
  const kill = () => it.killed.push(token);
  const peer = { isClosed: false, request, close: () => undefined };
  return { token, peer, serverProcess: { kill } } as unknown as ReadyProcess;
}

const settle = () => new Promise(setImmediate);

t.test('one is there while it is wanted, and the next after it was taken', async (t) => {
  const it = world();
  t.equal(await it.keeper.take(), undefined, 'none is launched for the one who asks');
  for (let times = 0; times < 3; times += 1) {
    it.keeper.balance();
    await settle();
  }
  t.equal(it.launches, 1);
  t.equal((await it.keeper.take())?.token, 'spare 1');
  t.equal(await it.keeper.take(), undefined);
  it.keeper.balance();
  await settle();
  t.equal((await it.keeper.take())?.token, 'spare 2');
  t.same(it.killed, []);
});

t.test('it ends a while after the last device, and with the controller', async (t) => {
  const it = world();
  it.keeper.balance();
  await settle();
  it.wanted = false;
  it.keeper.balance();
  t.same(it.killed, [], 'the next device may come at once');
  it.nowMs += 60_000;
  it.keeper.balance();
  t.same(it.killed, ['spare 1']);
  it.wanted = true;
  it.keeper.balance();
  it.keeper.close();
  await settle();
  t.same(it.killed, ['spare 1', 'spare 2'], 'also one that was being launched');
  it.keeper.balance();
  await settle();
  t.equal(it.launches, 2);
});

t.test('one of an older version ends, also while it is launched', async (t) => {
  const it = world();
  it.keeper.balance();
  await settle();
  it.keeper.refresh();
  t.same(it.killed, ['spare 1']);
  it.keeper.balance();
  it.keeper.refresh();
  await settle();
  t.same(it.killed, ['spare 1', 'spare 2']);
  it.keeper.balance();
  await settle();
  t.equal((await it.keeper.take())?.token, 'spare 3');
});

t.test('one that does not answer is killed, not handed out', async (t) => {
  const it = world();
  it.keeper.balance();
  await settle();
  it.answers = false;
  t.equal(await it.keeper.take(), undefined);
  t.same(it.killed, ['spare 1']);
});

t.test('a launch that fails is not tried again at once', async (t) => {
  const it = world();
  it.fails = true;
  for (let times = 0; times < 5; times += 1) {
    it.keeper.balance();
    await settle();
  }
  t.equal(it.launches, 1);
  it.nowMs += 60_000;
  it.keeper.balance();
  t.equal(it.launches, 2);
});
