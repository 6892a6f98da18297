/**
 * Claim: the registry gives back what was written, lets one process have an id, and puts a record
 * aside that it cannot read, without losing the others.
 * Method: a registry in a folder of its own; records damaged byte by byte.
 */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type DeviceRecord, Registry } from '../../src/gateway/registry.ts';

function recordOf(id: number): DeviceRecord {
  return {
    version: 1,
    id,
    token: `token ${id}`,
    phase: 'live',
    options: {
      target: { kind: 'memory', sizeBytes: 2n ** 40n, text: 'memory:1T' },
      readOnly: false,
      partitionScan: true,
      dataPath: 'copy',
      handshakeTimeoutMs: 10_000,
    },
    owner: { pid: 12, startTicks: '345', foreground: false },
    connectedAtMs: 1_790_000_000_000,
    madeNodes: ['/dev/ublkc0'],
  };
}

t.test('records come back as they were, in order of their ids', async (t) => {
  const registry = new Registry(t.testdir());
  for (const id of [10, 2, 0]) t.ok(registry.claim(recordOf(id)));
  t.strictSame(registry.readAll(), {
    records: [recordOf(0), recordOf(2), recordOf(10)],
    corrupt: [],
  });
  registry.update({ ...recordOf(2), phase: 'dead', reason: 'it was killed' });
  registry.remove(10);
  const { records } = registry.readAll();
  t.same(
    records.map(({ id, phase, reason }) => ({ id, phase, reason })),
    [
      { id: 0, phase: 'live', reason: undefined },
      { id: 2, phase: 'dead', reason: 'it was killed' },
    ],
  );
});

t.test('an id is claimed once', async (t) => {
  const folder = t.testdir();
  t.ok(new Registry(folder).claim(recordOf(3)));
  t.notOk(new Registry(folder).claim({ ...recordOf(3), token: 'other' }));
  t.equal(new Registry(folder).readAll().records[0]?.token, 'token 3');
  t.same(readdirSync(folder), ['3.msgpack'], 'no temporary file is left');
});

t.test('files are for their owner alone', async (t) => {
  const folder = t.testdir();
  new Registry(folder).claim(recordOf(0));
  t.equal(statSync(join(folder, '0.msgpack')).mode & 0o777, 0o600);
});

t.test('a damaged record is put aside once and the others are read', async (t) => {
  const folder = t.testdir();
  const registry = new Registry(folder);
  registry.claim(recordOf(0));
  registry.claim(recordOf(1));
  writeFileSync(join(folder, '1.msgpack'), 'not msgpack at all');
  const first = registry.readAll();
  t.same(
    first.records.map(({ id }) => id),
    [0],
  );
  t.same(first.corrupt, [{ id: 1, path: join(folder, '1.msgpack.corrupt') }]);
  t.ok(existsSync(join(folder, '1.msgpack.corrupt')));
  t.same(registry.readAll().corrupt, []);
  t.ok(registry.claim(recordOf(1)), 'the id can be claimed again');
});

t.test(
  'cut at any byte, or of another id or version, it is corrupt, never half a record',
  async (t) => {
    const folder = t.testdir();
    const registry = new Registry(folder);
    registry.claim(recordOf(5));
    const path = join(folder, '5.msgpack');
    const whole = readFileSync(path);
    for (let length = 0; length < whole.length; length += 1) {
      writeFileSync(path, whole.subarray(0, length));
      const { records, corrupt } = registry.readAll();
      t.same([records.length, corrupt.length], [0, 1], `cut at ${length}`);
    }
    for (const wrong of [
      { ...recordOf(5), id: 6 },
      { ...recordOf(5), version: 2 },
      { ...recordOf(5), phase: 'odd' as 'live' },
    ]) {
      registry.update({ ...wrong, id: wrong.id });
      if (wrong.id === 6) writeFileSync(path, readFileSync(join(folder, '6.msgpack')));
      registry.remove(6);
      t.same(registry.readAll().records, []);
    }
  },
);

t.test('files that are not records are left alone', async (t) => {
  const folder = t.testdir({ 'notes.txt': 'x', 'a.msgpack': 'x', '.0.12.tmp': 'x' });
  t.strictSame(new Registry(folder).readAll(), { records: [], corrupt: [] });
  t.equal(readdirSync(folder).length, 3);
});
