/**
 * Claim: sizes, tables and JSON are exact where they promise to be, and safe to print.
 * Method: the functions alone.
 */
import t from 'tap';
import { fields, humanSize, json, table } from '../../bin/output.ts';

t.test('sizes are those of lsblk', async (t) => {
  const cases: readonly (readonly [bigint, string])[] = [
    [0n, '0B'],
    [1023n, '1023B'],
    [1024n, '1K'],
    [1536n, '1.5K'],
    [1_048_575n, '1M'],
    [1_048_576n, '1M'],
    [268_435_456n, '256M'],
    [(1n << 30n) * 3n + (1n << 28n), '3.3G'],
    [1n << 50n, '1P'],
    [(1n << 63n) - 1n, '8E'],
  ];
  for (const [bytes, text] of cases) t.equal(humanSize(bytes), text, String(bytes));
});

t.test('JSON keeps every digit of a size', async (t) => {
  const limit = BigInt(Number.MAX_SAFE_INTEGER);
  t.equal(json({ a: limit, b: limit + 1n, c: -1n }), `{"a":${limit},"b":"${limit + 1n}","c":-1}`);
  t.equal(json('line\nbreak'), '"line\\nbreak"');
});

t.test('columns are as wide as their widest cell, and lines end with text', async (t) => {
  t.equal(
    table(
      ['A', 'LONG'],
      [
        ['wide', ''],
        ['b', 'c'],
      ],
    ),
    'A     LONG\nwide\nb     c',
  );
  t.equal(
    fields(
      [
        ['a', '1'],
        ['long', 'x\ty'],
      ],
      '  ',
    ),
    '  a     1\n  long  x y',
  );
});
