/**
 * Claim: `ublk-nbd cache` passes on what was asked and shows what was found, for people and for
 * machines.
 * Method: the command line in this process, over a gateway that records its calls.
 */
import { resolve } from 'node:path';
import t from 'tap';
import type { CacheEntryView, PruneStep, VerifyStep } from '../../src/gateway/cache-folder.ts';
import { GatewayError } from '../../src/protocols/errors.ts';
import { cli } from '../support/cli.ts';

const MIB = 2 ** 20;

function view(change: Partial<CacheEntryView> = {}): CacheEntryView {
  return {
    name: 'a'.repeat(32),
    url: 'https://h.example/disk.img',
    sizeBytes: 64 * MIB,
    cachedBytes: MIB,
    inUse: false,
    madeAtMs: 1_700_000_000_000,
    usedAtMs: 1_700_000_000_001,
    broken: null,
    ...change,
  };
}

const broken = view({
  ...{ name: 'b'.repeat(32), url: null, sizeBytes: null, inUse: null, madeAtMs: null },
  broken: 'its meta.json is no JSON',
});

async function* each<T>(steps: readonly T[]): AsyncGenerator<T> {
  yield* steps;
}

t.test('list is a table, one line an entry, and JSON for machines', async (t) => {
  const asked: unknown[] = [];
  const entries = [view(), view({ inUse: true }), broken];
  const listCache = async (directory: string | undefined) => {
    asked.push(directory);
    return entries;
  };
  const gateway = { listCache };
  const { status, stdout } = await cli(['cache', 'list'], { gateway });
  t.equal(status, 0);
  t.equal(
    stdout,
    [
      'SIZE  CACHED  IN USE  MADE                      URL',
      '64M   1M      no      2023-11-14T22:13:20.000Z  https://h.example/disk.img',
      '64M   1M      yes     2023-11-14T22:13:20.000Z  https://h.example/disk.img',
      `-     1M      -       -                         ${broken.name} (broken: ${broken.broken})`,
      '',
    ].join('\n'),
  );
  const json = await cli(['cache', 'list', 'some/where', '--json'], { gateway });
  t.strictSame(JSON.parse(json.stdout), entries);
  t.strictSame(asked, [undefined, resolve('some/where')]);
});

t.test('list of nothing prints nothing, or an empty array', async (t) => {
  const gateway = { listCache: async () => [] };
  t.same(await cli(['cache', 'list'], { gateway }), { status: 0, stdout: '', stderr: '' });
  t.equal((await cli(['cache', 'list', '--json'], { gateway })).stdout, '[]\n');
});

t.test('prune asks for thirty days, others, or all, and says what was freed', async (t) => {
  const asked: unknown[] = [];
  const steps: PruneStep[] = [
    { entry: view(), outcome: 'removed', freedBytes: 3 * MIB },
    { entry: view({ url: 'https://h.example/b' }), outcome: 'in use', freedBytes: 0 },
    { entry: view(), outcome: 'recent', freedBytes: 0 },
    { entry: broken, outcome: 'removed', freedBytes: MIB },
  ];
  const pruneCache = (directory: string | undefined, days: number | undefined) => {
    asked.push([directory, days]);
    return each(steps);
  };
  const gateway = { pruneCache };
  const { status, stdout } = await cli(['cache', 'prune'], { gateway });
  t.equal(status, 0);
  t.equal(
    stdout,
    [
      'https://h.example/disk.img: removed, 3M freed',
      'https://h.example/b: in use',
      `${broken.name}: removed, 1M freed`,
      '4M freed, 2 of 4 entries removed',
      '',
    ].join('\n'),
  );
  await cli(['cache', 'prune', '/c', '--older-than', '7'], { gateway });
  const json = await cli(['cache', 'prune', '/c', '--all', '--json'], { gateway });
  t.strictSame(asked, [
    [undefined, 30],
    ['/c', 7],
    ['/c', undefined],
  ]);
  t.match(JSON.parse(json.stdout), {
    freedBytes: 4 * MIB,
    entries: [{ name: 'a'.repeat(32), outcome: 'removed', freedBytes: 3 * MIB }, {}, {}, {}],
  });
});

t.test(
  'verify succeeds where all is right or mended, and names what it could not look at',
  async (t) => {
    const step = (change: Partial<VerifyStep>): VerifyStep => ({
      ...{ entry: view(), outcome: 'checked', checkedBytes: 5n, droppedBytes: 0n },
      ...change,
    });
    const run = (steps: readonly VerifyStep[], ...more: string[]) =>
      cli(['cache', 'verify', ...more], { gateway: { verifyCache: () => each(steps) } });
    t.same(await run([step({}), step({ outcome: 'in use', checkedBytes: 0n })]), {
      status: 0,
      stdout:
        'https://h.example/disk.img: 5B checked, all right\n' +
        'https://h.example/disk.img: in use, not checked\n' +
        'nothing is damaged\n',
      stderr: '',
    });
    const mended = await run([step({ droppedBytes: 2n }), step({})]);
    t.equal(mended.status, 0);
    t.match(mended.stdout, /5B checked, 2B dropped\n.*all right\nwhat was damaged is dropped/);
    const failed = await run([step({}), step({ entry: broken, outcome: 'broken' })]);
    t.equal(failed.status, 2);
    t.match(failed.stdout, `${broken.name}: broken: its meta.json is no JSON\n`);
    t.notMatch(failed.stdout, 'nothing is damaged');
    t.match(failed.stderr, /^ublk-nbd: 1 of 2 entries cannot be checked; .*cache prune/);
    const json = await run([step({ droppedBytes: 2n })], '--json');
    t.match(JSON.parse(json.stdout), { droppedBytes: 2, entries: [{ checkedBytes: 5 }] });
  },
);

t.test('an interruption is status 130', async (t) => {
  const verifyCache = async function* (_: string | undefined, signal: AbortSignal) {
    t.ok(signal.aborted);
    yield* each<VerifyStep>([]);
    throw new GatewayError('UNBD_INTERRUPTED', 'interrupted');
  };
  const setup = { gateway: { verifyCache }, signal: AbortSignal.abort() };
  t.equal((await cli(['cache', 'verify'], setup)).status, 130);
});

t.test('what makes no sense is refused', async (t) => {
  const wrong: readonly (readonly [string[], RegExp])[] = [
    [['cache'], /cache needs <action> \[directory\]/],
    [['cache', 'clear'], /action 'clear' is not one of: list, prune, verify/],
    [['cache', 'list', '--all'], /are for cache prune/],
    [['cache', 'verify', '--older-than', '3'], /are for cache prune/],
    [['cache', 'prune', '--all', '--older-than', '3'], /exclude each other/],
    [['cache', 'prune', '--older-than', '0'], /whole number from 1 to 36500/],
    [['cache', 'list', ''], /has no name/],
  ];
  for (const [typed, line] of wrong) {
    const { status, stderr } = await cli(typed);
    t.equal(status, 2, typed.join(' '));
    t.match(stderr, line);
  }
});

t.test('a shell is offered the actions, and is left to find the folder', async (t) => {
  const words = async (...typed: string[]) =>
    (await cli(['--get-yargs-completions', 'ublk-nbd', 'cache', ...typed])).stdout;
  t.equal(await words(''), 'list\nprune\nverify\n');
  t.equal(await words('p'), 'prune\n');
  t.equal(await words('prune', ''), '');
  t.equal(await words('prune', '/var/c'), '');
  t.match(await words('prune', '--older'), '--older-than\n');
});
