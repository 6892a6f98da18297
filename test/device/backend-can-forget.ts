/**
 * Claim: of a backend that forgets what was not flushed when it is killed, nothing that was
 * acknowledged is lost with --unflushed replay, the default; trust loses it; fail-flush says so,
 * once, to who asks for a flush.
 * Method: a backend of ours that has writes in memory alone until a FLUSH, killed -9: under fio
 * with its checksums, and among seeded writes and fsyncs of which a model knows what may be there.
 */
import assert from 'node:assert/strict';
import { isBrief, isFull } from '../support/amount.ts';
import { claim, claimToo } from '../support/claim.ts';
import { DirectFile, errorOf } from '../support/direct-file.ts';
import { DiskModel } from '../support/disk-model.ts';
import { ForgetfulBackend } from '../support/forgetful-backend.ts';
import { PATIENTLY, untilState } from '../support/kills.ts';
import { connect, type Device } from '../support/product.ts';
import { type Random, randomFrom } from '../support/random.ts';
import { verifyThrough } from '../support/under-load.ts';

const KILLS = isFull ? 30 : isBrief ? 2 : 8;
const STEPS = isFull ? 400 : 60;
const BLOCKS = 64;
const BLOCK_BYTES = 4096;

async function killAndRestart(backend: ForgetfulBackend, device: Device): Promise<void> {
  await backend.kill();
  await untilState(device, /HOLDING/);
  await backend.restart();
  await untilState(device, /CONNECTED/);
}

claim(`fio verifies while a backend that forgets is killed -9 ${KILLS} times`, async (scope) => {
  const backend = await ForgetfulBackend.start(scope, 64, 20);
  const device = await connect(scope, backend.target, ...PATIENTLY);
  await verifyThrough(device, KILLS, () => killAndRestart(backend, device), { size: '16M' });
  await device.disconnect();
});

/** Writes and fsyncs at random; ends with writes that no fsync covers. */
function write(file: DirectFile, model: DiskModel, random: Random): void {
  for (let step = 1; step <= STEPS; step += 1) {
    if (random(20) === 0 && step < STEPS - 5) {
      file.sync();
      model.flushed();
      continue;
    }
    const block = random(BLOCKS);
    const content = 1 + random(255);
    file.write(block * BLOCK_BYTES, Buffer.alloc(BLOCK_BYTES, content));
    model.wrote(block, content);
  }
}

function contents(file: DirectFile): Map<number, number> {
  const found = new Map<number, number>();
  for (let block = 0; block < BLOCKS; block += 1) {
    const bytes = file.read(block * BLOCK_BYTES, BLOCK_BYTES);
    const content = bytes[0] ?? 0;
    assert(bytes.equals(Buffer.alloc(BLOCK_BYTES, content)), `block ${block} is of one piece`);
    found.set(block, content);
  }
  return found;
}

for (const policy of ['replay', 'trust'] as const) {
  const what =
    policy === 'replay' ? 'what was acknowledged is there' : 'what was unflushed is lost';
  claimToo(`--unflushed ${policy}: after a kill ${what}`, async (scope) => {
    const backend = await ForgetfulBackend.start(scope, 1);
    const device = await connect(scope, backend.target, '--unflushed', policy, ...PATIENTLY);
    const file = new DirectFile(device.path);
    scope.defer(() => file.close());
    const model = new DiskModel(BLOCKS);
    write(file, model, randomFrom(7));
    assert.notDeepEqual(model.forgotten, model.whole, 'there is something to lose');
    await killAndRestart(backend, device);
    assert.deepEqual(contents(file), policy === 'replay' ? model.whole : model.forgotten);
    file.close();
    await device.disconnect();
  });
}

claimToo('--unflushed fail-flush: the next fsync fails, once, and no other I/O', async (scope) => {
  const backend = await ForgetfulBackend.start(scope, 1);
  const device = await connect(scope, backend.target, '--unflushed', 'fail-flush', ...PATIENTLY);
  const file = new DirectFile(device.path);
  scope.defer(() => file.close());
  const sync = (): string => errorOf(() => file.sync());
  file.write(0, Buffer.alloc(BLOCK_BYTES, 'a'));
  assert.equal(sync(), 'none');
  await killAndRestart(backend, device);
  assert.equal(sync(), 'none', 'nothing was unflushed');
  file.write(0, Buffer.alloc(BLOCK_BYTES, 'b'));
  await killAndRestart(backend, device);
  const again = Buffer.alloc(BLOCK_BYTES, 'c');
  file.write(BLOCK_BYTES, again);
  assert(file.read(BLOCK_BYTES, BLOCK_BYTES).equals(again));
  assert.equal(file.read(0, 1024)[0], 'a'.charCodeAt(0), 'it did forget');
  assert.equal(sync(), 'EIO');
  assert.equal(sync(), 'none');
  file.close();
  await device.disconnect();
});
