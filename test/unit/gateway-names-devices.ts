/**
 * Claim: a device is found by every name that it has, and a stable name cannot be taken for a
 * number.
 * Method: parseDevice, isStableName, lowestFreeId.
 */
import t from 'tap';
import { lowestFreeId } from '../../src/gateway/device-id.ts';
import { isStableName, parseDevice } from '../../src/gateway/device-name.ts';

t.test('numbers and names', async (t) => {
  for (const text of ['3', 'ublkb3', '/dev/ublkb3']) t.same(parseDevice(text), { id: 3 }, text);
  for (const text of ['root-disk', '/dev/ublk-nbd/root-disk']) {
    t.same(parseDevice(text), { name: 'root-disk' }, text);
  }
  for (const text of ['', '/dev/sda', '../x', 'a b', '/dev/ublkb3p1', '-f', '9999999999']) {
    t.throws(() => parseDevice(text), { code: 'UNBD_USAGE' }, text);
  }
});

t.test('a stable name is no number, no path and no option', async (t) => {
  for (const name of ['a', 'vm-1.root', 'A_b', 'x'.repeat(64)]) t.ok(isStableName(name), name);
  for (const name of ['', '7', 'ublkb7', '.', '..', '.x', '-x', 'a/b', 'é', 'x'.repeat(65)]) {
    t.notOk(isStableName(name), name);
  }
});

t.test('the lowest id that nobody has', async (t) => {
  t.equal(lowestFreeId(0), 0);
  t.equal(lowestFreeId(0, new Set([0, 1, 3])), 2);
  t.equal(lowestFreeId(0, new Set([0]), new Set([1, 2])), 3);
  t.equal(lowestFreeId(3, new Set([0])), 3);
});
