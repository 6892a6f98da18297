/**
 * Claim: the device layer's pairwise subset has every pair, and its reader of TAP counts what was
 * tested and nothing else.
 * Method: the tables themselves, and streams as node:test, tap and our C++ tests print them.
 */
import t from 'tap';
import { allCombinations, pairwiseHalf } from '../support/combinations.ts';
import { evenGroups, planBoots } from '../support/device-plan.ts';
import { Lines, TapReader, type TapTest } from '../support/tap-stream.ts';

t.test('the pairwise subset has every pair that all combinations have', async (t) => {
  const pairs = (of: ReturnType<typeof allCombinations>): Set<string> =>
    new Set(
      of.flatMap(({ backend, transport, filesystem }) => [
        `${backend} ${transport}`,
        `${backend} ${filesystem}`,
        `${transport} ${filesystem}`,
      ]),
    );
  t.equal(allCombinations().length, 20);
  t.strictSame(
    [...pairs([...pairwiseHalf(0), ...pairwiseHalf(1)])].sort(),
    [...pairs(allCombinations())].sort(),
  );
  for (const half of [0, 1] as const) {
    t.equal(new Set(pairwiseHalf(half).map(({ backend }) => backend)).size, 5, 'every backend');
  }
});

function read(depth: number, text: string): { tests: TapTest[]; planned: number | undefined } {
  const tests: TapTest[] = [];
  const tap = new TapReader(depth, (test) => tests.push(test));
  const lines = new Lines((line) => tap.line(line));
  // In pieces, as a pipe may cut them.
  for (let at = 0; at < text.length; at += 7) lines.push(text.slice(at, at + 7));
  lines.end();
  tap.end();
  return { tests, planned: tap.planned };
}

const NODE_TEST = `TAP version 13
# Subtest: good
ok 1 - good
  ---
  duration_ms: 12.5
  ...
# Subtest: bad
not ok 2 - bad
  ---
  duration_ms: 7
  error: 'why'
  ...
# Subtest: left out
ok 3 - left out # SKIP because
1..3
`;

t.test('the reader counts the tests of node:test', async (t) => {
  const { tests, planned } = read(0, NODE_TEST);
  t.strictSame(
    tests.map(({ name, result, durationMs }) => [name, result, durationMs]),
    [
      ['good', 'passed', 12.5],
      ['bad', 'failed', 7],
      ['left out', 'skipped', undefined],
    ],
  );
  t.match(tests[1]?.details.join('\n'), /error: 'why'/);
  t.equal(planned, 3);
});

t.test('the reader counts the subtests of tap at their depth, and no file', async (t) => {
  const text = `# Subtest: test/unit/a.ts
    # Subtest: inner
        ok 1 - deeper
        1..1
    ok 1 - inner # time=3.1ms

    not ok 2 - broken # time=1ms
    1..2
not ok 1 - test/unit/a.ts # time=5ms
1..1
`;
  t.strictSame(
    read(1, text).tests.map(({ name, result }) => [name, result]),
    [
      ['inner', 'passed'],
      ['broken', 'failed'],
    ],
  );
});

t.test('the reader keeps what a C++ test says in front of its failure', async (t) => {
  const { tests } = read(0, '# a.cc:7: CHECK(x == 1)\nnot ok 1 - x is one\nok 2 - fine\n1..2\n');
  t.strictSame(
    tests.map(({ result, details }) => [result, details]),
    [
      ['failed', ['# a.cc:7: CHECK(x == 1)']],
      ['passed', []],
    ],
  );
});

t.test('the reader keeps what failed inside a test', async (t) => {
  const text = `# Subtest: outer
    ok 1 - fine
    not ok 2 - wrong
      ---
      diff: 1 is not 2
      ...
    1..2
not ok 1 - outer
ok 2 - another
1..2
`;
  const { tests } = read(0, text);
  t.match(tests[0]?.details.join('\n'), /not ok 2 - wrong\n.*\n.*diff: 1 is not 2/);
  t.strictSame(tests[1]?.details, []);
});

t.test('another runner gets every file in a run of its own', async (t) => {
  const root = t.testdir({ dist: { test: { device: { 'a.js': '', 'b.js': '', 'c.txt': '' } } } });
  const options = { root, isFull: false, sanitize: false, only: undefined };
  const boots = planBoots(options, '/opt/run -t 60');
  t.strictSame(
    boots.map(({ files, runner }) => [files, runner]),
    [
      [['a'], ['/opt/run', '-t', '60']],
      [['b'], ['/opt/run', '-t', '60']],
    ],
  );
  t.strictSame(
    planBoots(options, 'native').map(({ files, runner }) => [files, runner]),
    [[['a', 'b'], undefined]],
  );
  t.same(planBoots({ ...options, only: 'nothing' }, ''), [], 'no file, no boot');
});

t.test('the files of a kernel are spread over boots that take about the same time', async (t) => {
  const groups = evenGroups(['a', 'b', 'filesystem-keeps-its-bytes', 'c'], 2);
  t.strictSame(groups, [['filesystem-keeps-its-bytes'], ['a', 'b', 'c']]);
  t.same(evenGroups(['a'], 3), [['a']], 'no boot without a file');
});

t.test('a run with sanitizers plays the least with them, and the rest without', async (t) => {
  const root = t.testdir({
    dist: {
      test: {
        device: {
          'bad-input.js': "claimToo('left out')",
          'backend-can-die.js': "claimToo('left out')",
          'hostile-backends-harm-nothing.js': '',
          'limits.js': "claim('played elsewhere')",
        },
      },
    },
  });
  const options = { root, isFull: false, sanitize: true, only: undefined };
  const boots = planBoots(options, '/opt/run').map(({ files, environment }) => [
    files[0],
    environment.UBLK_NBD_TEST_AMOUNT,
    environment.UBLK_NBD_TEST_PRELOAD !== undefined,
  ]);
  t.strictSame(boots, [
    ['backend-can-die', 'least', true],
    ['backend-can-die', 'rest', false],
    ['hostile-backends-harm-nothing', 'brief', true],
    ['bad-input', 'rest', false],
  ]);
});
