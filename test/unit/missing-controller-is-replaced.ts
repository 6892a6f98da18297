/**
 * Claim: a server process starts another controller when its own died, and only then: not while
 * another process does, not for one that ended on purpose or that a service manager keeps.
 * Method: MissingController with a clock of the test's own.
 */
import t from 'tap';
import { MissingController } from '../../src/gateway/missing-controller.ts';

const ON_DEMAND = { onDemand: true };

function missingController() {
  const seen = { starts: 0, releases: 0, log: [] as string[], nowMs: 0, locked: false };
  let failure: unknown;
  const missing = new MissingController({
    lock: () => {
      if (seen.locked) return undefined;
      return () => {
        seen.releases += 1;
      };
    },
    start: async () => {
      seen.starts += 1;
      return failure;
    },
    now: () => seen.nowMs,
    log: (text) => seen.log.push(text),
  });
  const missedFor = async (seconds: number): Promise<number> => {
    const before = seen.starts;
    for (let second = 0; second < seconds; second += 1) {
      missing.missed();
      seen.nowMs += 1000;
    }
    await new Promise((resolve) => setImmediate(resolve));
    return seen.starts - before;
  };
  const failWith = (error: Error): void => {
    failure = error;
  };
  return { missing, seen, missedFor, failWith };
}

t.test('one that died is replaced after some seconds, and tried again later', async (t) => {
  const { missing, seen, missedFor } = missingController();
  missing.met(ON_DEMAND);
  t.equal(await missedFor(3), 0);
  t.equal(await missedFor(5), 1);
  t.equal(await missedFor(20), 0, 'it has time to come');
  t.equal(await missedFor(12), 1);
  t.equal(seen.releases, 2, 'the lock is given back');
  missing.met(ON_DEMAND);
  t.equal(await missedFor(3), 0, 'the patience begins anew');
});

t.test(
  'one that a service manager keeps, or an older one that does not tell, is not',
  async (t) => {
    for (const details of [{ onDemand: false }, undefined, null]) {
      const { missing, missedFor } = missingController();
      missing.met(details);
      t.equal(await missedFor(60), 0);
    }
  },
);

t.test('one that says goodbye is not; the next one is', async (t) => {
  const { missing, missedFor } = missingController();
  missing.met(ON_DEMAND);
  missing.saidGoodbye();
  t.equal(await missedFor(60), 0);
  missing.met(ON_DEMAND);
  t.equal(await missedFor(8), 1);
});

t.test('while another process starts or upgrades it, it is left to that', async (t) => {
  const { missing, seen, missedFor } = missingController();
  missing.met(ON_DEMAND);
  seen.locked = true;
  t.equal(await missedFor(60), 0);
  seen.locked = false;
  t.equal(await missedFor(31), 1);
});

t.test('that it could not be started is told', async (t) => {
  const { missing, seen, missedFor, failWith } = missingController();
  missing.met(ON_DEMAND);
  failWith(new Error('no memory'));
  t.equal(await missedFor(8), 1);
  t.match(seen.log, [/the controller is gone/, /no other .* could be started: no memory/]);
});
