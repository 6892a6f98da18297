/**
 * Claim: the self-test of a server process passes where it could serve the device, says when the
 * backend takes no second client, and fails on anything else.
 * Method: selfTest with the addon, against a scripted backend that changes after its first client.
 */
import assert from 'node:assert/strict';
import t, { type Test } from 'tap';
import { dial } from '../../src/gateway/dial.ts';
import { loadAddon } from '../../src/gateway/native.ts';
import type { DeviceRecord } from '../../src/gateway/registry.ts';
import { selfTest } from '../../src/gateway/self-test.ts';
import { readFingerprint } from '../../src/protocols/nbd/fingerprint.ts';
import { negotiate } from '../../src/protocols/nbd/handshake.ts';
import { parseTarget } from '../../src/protocols/target.ts';
import { optionsFor } from '../support/fake-host.ts';
import {
  type ScriptedNbd,
  type ScriptedOptions,
  startScriptedNbd,
} from '../support/scripted-nbd.ts';
import { FLAG } from '../support/scripted-nbd-wire.ts';

/** Nothing here waits for its end. */
const TIMEOUT_MS = 60_000;
const addon = loadAddon();

interface Served {
  readonly backend: ScriptedNbd;
  /** As the registry has it of a device whose only connection is open. */
  readonly record: DeviceRecord;
}

async function served(t: Test, options: ScriptedOptions, readOnly = false): Promise<Served> {
  const backend = await startScriptedNbd(options);
  t.teardown(() => backend.close());
  const target = parseTarget(backend.target);
  assert(target.kind === 'nbd');
  const stream = await dial(addon, target.endpoint, TIMEOUT_MS);
  t.teardown(() => stream.close());
  const found = await negotiate(stream, { exportName: '', timeoutMs: TIMEOUT_MS });
  const fingerprint = readOnly ? await readFingerprint(stream, found, TIMEOUT_MS) : undefined;
  const { sizeBytes } = found.info;
  const size = { sizeBytes, readOnly, maxIoBytes: 65_536, logicalBlockBytes: 512 };
  const record: DeviceRecord = {
    version: 1,
    id: 0,
    token: 'a',
    phase: 'live',
    options: optionsFor({ target, readOnly, handshakeTimeoutMs: TIMEOUT_MS }),
    owner: { pid: 1, startTicks: '1', foreground: false },
    connectedAtMs: 1,
    backend: found.info,
    ...(fingerprint === undefined ? {} : { fingerprint }),
    shape: { queues: 1, depth: 64, ...size },
    madeNodes: [],
  };
  return { backend, record };
}

t.test('without a device only the ring is tried', async (t) => {
  t.same(await selfTest(addon, {}), {});
  const checkRing = (): void => {
    throw Object.assign(new Error('io_uring'), { code: 'EPERM' });
  };
  await t.rejects(selfTest({ ...addon, checkRing }, {}), {
    code: 'UNBD_IO_URING_DISABLED',
    message: /EPERM/,
  });
});

t.test('the same backend passes, and is left as the protocol asks', async (t) => {
  for (const readOnly of [false, true]) {
    const { backend, record } = await served(t, {}, readOnly);
    t.same(await selfTest(addon, { record }), {});
    t.equal(backend.counters.connections, 2);
    t.same(backend.clientErrors, []);
  }
});

t.test('another image fails: smaller, read-only, other content', async (t) => {
  const flags = FLAG.hasFlags | FLAG.readOnly;
  const settingsOf = (change: object) => (connection: number) => (connection === 0 ? {} : change);
  for (const [change, reason] of [
    [{ sizeBytes: 1n << 20n }, /smaller/],
    [{ transmissionFlags: flags }, /read-only/],
  ] as const) {
    const { record } = await served(t, { settingsOf: settingsOf(change) });
    const test = selfTest(addon, { record });
    await t.rejects(test, { code: 'UNBD_EXPORT_UNUSABLE', message: reason });
  }
  const { backend, record } = await served(t, {}, true);
  backend.image.fill(7);
  const test = selfTest(addon, { record });
  await t.rejects(test, { code: 'UNBD_EXPORT_UNUSABLE', message: /content/ });
});

t.test('no second client is no fault of ours, a handshake that fails is', async (t) => {
  const full = await served(t, { maxClients: 1 });
  t.match(await selfTest(addon, { record: full.record }), { skipped: /closed the connection/ });
  const gone = await served(t, {});
  await gone.backend.close();
  t.match(await selfTest(addon, { record: gone.record }), { skipped: /refused/ });
  const { record } = await served(t, {});
  const target = { ...record.options.target, exportName: 'other' };
  const options = { ...record.options, target } as DeviceRecord['options'];
  await t.rejects(selfTest(addon, { record: { ...record, options } }), {
    code: 'UNBD_EXPORT_UNKNOWN',
  });
});

t.test('a local target is looked at again', async (t) => {
  const { record } = await served(t, {});
  const target = { kind: 'null', sizeBytes: 4n << 20n, text: 'null:4M' } as const;
  const local = (sizeBytes: bigint) => ({
    record: { ...record, options: optionsFor({ target: { ...target, sizeBytes } }) },
  });
  t.same(await selfTest(addon, local(4n << 20n)), {});
  await t.rejects(selfTest(addon, local(1n << 20n)), { message: /smaller/ });
});
