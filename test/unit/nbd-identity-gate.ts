/**
 * Claim: a device never goes on with another image, and goes on with the same one whatever else
 * has changed.
 */
import t from 'tap';
import { judgeIdentity } from '../../src/protocols/nbd/identity.ts';
import { backend } from '../support/fake-host.ts';

const needs = { sizeBytes: 1n << 20n, readOnly: false, logicalBlockBytes: 512, queues: 4 };
const before = { ...backend, sizeBytes: 1n << 20n, canMultiConn: true };

t.test('what is other ends the device', async (t) => {
  const cases = [
    [{ sizeBytes: (1n << 20n) - 512n }, {}, /smaller now: 1048064 of 1048576 bytes/],
    [{ readOnly: true }, {}, /read-only now/],
    [{ minimumBlockBytes: 4096 }, {}, /minimum block size is 4096 bytes, above the device's 512/],
    [{ canMultiConn: false }, {}, /one connection now .*, not 4/],
    [{ canFlush: false }, {}, /cannot FLUSH/],
    [{ sizeBytes: 0n }, { readOnly: true }, /smaller/],
    [{ minimumBlockBytes: 1024 }, { readOnly: true }, /minimum/],
  ] as const;
  for (const [change, need, expected] of cases) {
    const verdict = judgeIdentity({ ...needs, ...need }, before, { ...before, ...change });
    t.equal(verdict.kind, 'other', String(expected));
    if (verdict.kind === 'other') t.match(verdict.reason, expected);
  }
});

t.test('what does no harm is told', async (t) => {
  const now = { ...before, canFua: false, canTrim: false, canWriteZeroes: false };
  const verdict = judgeIdentity(needs, before, now);
  t.match(verdict, { kind: 'same', grown: false });
  if (verdict.kind === 'same') t.equal(verdict.notes.length, 3);
  t.match(judgeIdentity(needs, before, { ...before, sizeBytes: 1n << 21n }), {
    kind: 'same',
    grown: true,
    notes: [],
  });
  const resized = { ...needs, sizeBytes: 1n << 21n };
  const same = judgeIdentity(resized, before, { ...before, sizeBytes: 1n << 21n });
  t.match(same, { kind: 'same', grown: false }, 'as large as the device that followed it');
  const shrunk = judgeIdentity(resized, before, before);
  t.match(shrunk, { kind: 'other', reason: /smaller now/ }, 'and it may not go back');
  t.strictSame(judgeIdentity(needs, before, { ...before, maximumBlockBytes: 65536 }), {
    kind: 'same',
    grown: false,
    notes: [],
  });
});

t.test('a read-only device asks for less', async (t) => {
  const readOnly = { ...needs, readOnly: true };
  const exportNow = { ...before, readOnly: true, canFlush: false, canMultiConn: false };
  t.match(judgeIdentity(readOnly, { ...before, readOnly: true }, exportNow), { kind: 'same' });
  t.match(
    judgeIdentity(readOnly, before, before),
    { kind: 'same' },
    'writable now: stays as it is',
  );
});
