/**
 * Claim: fills that are read ahead and go on where the one before ends are one read, of which each
 * ends as it would alone.
 * Method: StoreLife over a store of the test's own and a source that the test drives.
 */
import t from 'tap';
import { RunBound, runsOf } from '../../src/gateway/fill-run.ts';
import type { StoreFill } from '../../src/gateway/native-store.ts';
import { SourceError } from '../../src/protocols/source/source-error.ts';
import { begin, fill, settled } from '../support/fake-store.ts';

const EIO = 5;

/** Four that go on where the one before ends, and where each of them has its place. */
function fillsInARow(places = [1024, 1536, 2048, 2560]): StoreFill[] {
  return places.map((arenaOffsetBytes, id) =>
    fill(id, { offsetBytes: 512 * id, arenaOffsetBytes, urgent: false }),
  );
}

t.test('fills in a row are one read, and each ends when its last byte is there', async (t) => {
  const { life, store, reads } = begin();
  store.want(...fillsInARow());
  t.equal(reads.length, 1);
  t.match(reads[0]?.read, { offsetBytes: 0, urgent: false });
  t.equal(reads[0]?.read.into.length, 2048);
  t.type(reads[0]?.read.into, Uint8Array, 'where all is one piece, it is plain memory');
  reads[0]?.read.landed(100);
  reads[0]?.read.landed(512);
  reads[0]?.read.landed(1500);
  store.want(fill(0, { offsetBytes: 4096 }), fill(0, { kind: 'promote' }));
  t.equal(reads.length, 2, 'an id that has ended is free again');
  reads[0]?.read.landed(2048);
  t.equal(store.reports.length, 5, 'the last byte waits for the end of the read');
  reads[0]?.settle();
  await settled();
  t.same(store.reports, [
    ...[
      [0, 100, 0],
      [0, 512, 0],
      [1, 512, 0],
      [2, 476, 0],
    ],
    ...[
      [2, 512, 0],
      [3, 512, 0],
    ],
  ]);
  life.end();
});

t.test('a row lands in places that lie anywhere', async (t) => {
  const { life, store, reads } = begin();
  const places = [4096, 512, 1024, 7680];
  store.want(...fillsInARow(places));
  t.equal(reads.length, 1);
  const into = reads[0]?.read.into;
  t.equal(into?.length, 2048);
  const bytes = Uint8Array.from({ length: 2048 }, (_, at) => 1 + (at % 251));
  for (const [from, to] of [
    [0, 100],
    [100, 1700],
    [1700, 1700],
    [1700, 2048],
  ] as const) {
    into?.set(bytes.subarray(from, to), from);
  }
  const gathered = () =>
    Buffer.concat(places.map((place) => new Uint8Array(store.arena, place, 512)));
  t.ok(gathered().equals(bytes));
  for (const from of [0, 511, 512, 1536, 2047]) {
    new Uint8Array(store.arena).fill(0);
    const rest = into?.subarray(from);
    t.equal(rest?.length, 2048 - from);
    rest?.set(bytes.subarray(from), 0);
    const expected = Uint8Array.from(bytes).fill(0, 0, from);
    t.ok(gathered().equals(expected), `from ${from} on`);
  }
  t.equal(
    new Uint8Array(store.arena).findIndex((byte) => byte !== 0),
    7680 + 511,
    'nothing else',
  );
  t.throws(() => into?.set(bytes, 1), 'not behind its end');
  life.end();
});

t.test('connections that are fresh, or were idle, are asked for little', async (t) => {
  let nowMs = 1_000_000;
  const bound = new RunBound(() => nowMs);
  const after = (mebibytes: number): number => {
    bound.brought(mebibytes * 2 ** 20);
    return bound.bytes / 2 ** 20;
  };
  t.equal(bound.bytes, 2 ** 20);
  t.same([16, 24, 24, 1000].map(after), [1, 2.5, 4, 4]);
  nowMs += 4_999;
  t.equal(after(1), 4);
  nowMs += 5_001;
  t.equal(bound.bytes, 2 ** 20);
  t.same([16, 24].map(after), [1, 2.5]);
});

t.test('a row that breaks off ends what it has not brought', async (t) => {
  const { life, store, reads } = begin();
  store.want(...fillsInARow());
  reads[0]?.read.landed(600);
  reads[0]?.settle(new SourceError('UNBD_BACKEND_UNREACHABLE', 'nobody is there'));
  await settled();
  t.same(store.reports, [
    [0, 512, 0],
    [1, 88, 0],
    [1, 88, EIO],
    [2, 0, EIO],
    [3, 0, EIO],
  ]);
  life.end();
});

t.test(
  'what is waited for, does not go on or would be too much is a read of its own',
  async (t) => {
    const apart: [string, Partial<StoreFill>][] = [
      ['it is waited for', { urgent: true }],
      ['of the object', { offsetBytes: 513 }],
    ];
    for (const [name, more] of apart) {
      const { life, store, reads } = begin();
      const [first, second] = fillsInARow();
      if (first === undefined || second === undefined) throw new Error('no fills');
      store.want(first, { ...second, ...more });
      t.equal(reads.length, 2, name);
      life.end();
    }
    const large = (id: number): StoreFill => {
      const lengthBytes = 2 ** 20;
      const place = { offsetBytes: id * lengthBytes, arenaOffsetBytes: id * lengthBytes };
      return fill(id, { ...place, lengthBytes, urgent: false });
    };
    t.same(
      runsOf([0, 1, 2, 3, 4, 5].map(large), 4 * 2 ** 20).map((run) => run.length),
      [4, 2],
    );
    const promote = fill(0, { kind: 'promote' });
    t.same(runsOf([large(0), promote, large(1)], 4 * 2 ** 20).length, 3);
  },
);
