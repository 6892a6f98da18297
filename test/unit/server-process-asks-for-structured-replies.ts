/**
 * Claim: every connection of a device asks for structured replies where the device was made so, and
 * none does otherwise: the first ones, those of a reconnect, a successor's, and a self-test's. A
 * device of a version whose records do not say goes on with simple replies.
 * Method: what server processes do with the addon, against a scripted backend that notes who asks.
 */
import assert from 'node:assert/strict';
import t, { type Test } from 'tap';
import { openBackend, serveAgain } from '../../src/gateway/backend.ts';
import { type AdapterSpec, loadAddon, type Queues } from '../../src/gateway/native.ts';
import type { DeviceRecord } from '../../src/gateway/registry.ts';
import { selfTest } from '../../src/gateway/self-test.ts';
import type { StartArgument } from '../../src/gateway/server-messages.ts';
import { parseTarget } from '../../src/protocols/target.ts';
import { backend as info, optionsFor } from '../support/fake-host.ts';
import { startScriptedNbd } from '../support/scripted-nbd.ts';

const TIMEOUT_MS = 60_000;
const QUEUES = 2;
const addon = loadAddon();

/** What the queues' connections agreed on. */
type Resumed = Parameters<Queues['resume']>[0];

/** Queues that only take the connections that a reconnect brings. */
function idleQueues(resumed: (connections: Resumed) => void): Queues {
  const queues: Partial<Queues> = {
    hold: async () => undefined,
    resume: resumed,
    stats: () => ({ inFlight: 0 }) as ReturnType<Queues['stats']>,
  };
  return queues as Queues;
}

async function start(t: Test, structuredReplies: boolean | undefined) {
  const backend = await startScriptedNbd({});
  t.teardown(() => backend.close());
  const target = parseTarget(backend.target);
  assert(target.kind === 'nbd');
  const asked = structuredReplies === undefined ? {} : { structuredReplies };
  const own = {
    target,
    handshakeTimeoutMs: TIMEOUT_MS,
    unflushed: 'trust',
    queues: QUEUES,
  } as const;
  const options = optionsFor({ ...own, ...asked });
  const sizeBytes = BigInt(backend.image.length);
  const size = { sizeBytes, maxIoBytes: 65_536, readOnly: false, depth: 8 };
  const record: DeviceRecord = {
    ...{ version: 1, id: 0, token: 'a', phase: 'live', options, madeNodes: [] },
    ...{ owner: { pid: 1, startTicks: '1', foreground: false }, connectedAtMs: 1 },
    backend: { ...info, sizeBytes },
    shape: { ...size, queues: QUEUES, logicalBlockBytes: 512 },
  };
  const successor: StartArgument = {
    ...{ devId: 0, charDevicePath: '/dev/ublkc0', queueCount: QUEUES, ...size, dataPath: 'copy' },
    ...{ suppressPartitionScan: false, recovery: true, failing: false, record },
  };
  return { backend, target, options, record, successor };
}

function agreedOn(adapter: AdapterSpec): boolean {
  assert(adapter.kind === 'nbd');
  return adapter.structuredReplies;
}

for (const structuredReplies of [true, false, undefined]) {
  const asks = structuredReplies === true;
  t.test(`a device made with ${structuredReplies}`, async (t) => {
    const { backend, target, options, record, successor } = await start(t, structuredReplies);
    const { counters } = backend;
    const opened = await openBackend(addon, options, QUEUES);
    t.equal(counters.connections, QUEUES);
    t.equal(counters.structuredReplies, asks ? QUEUES : 0, 'the first connections');
    const first = opened.serve({ ...successor, recovery: false }, () => undefined);
    t.equal(agreedOn(first.adapter), asks);
    first.end();
    opened.close();

    t.same(await selfTest(addon, { record }), {});
    t.equal(counters.structuredReplies, asks ? QUEUES + 1 : 0, 'the self-test of an upgrade');

    const serving = await serveAgain(addon, target, successor, () => undefined);
    const resumed = await new Promise<Resumed>((resolve) => serving.started(idleQueues(resolve)));
    t.equal(resumed.structuredReplies, asks);
    t.equal(counters.structuredReplies, asks ? 2 * QUEUES + 1 : 0, 'a successor and a reconnect');
    serving.end();
    for (const transport of resumed.transports) transport.close();
    t.same(backend.clientErrors, []);
  });
}
