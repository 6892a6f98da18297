/**
 * Claim: a queue that loses its backend while others are still being started is heard: the device
 * holds, and gets its backend back.
 * Method: Server with the addon, but for its queues: they tell of a loss before their start ends.
 */
import assert from 'node:assert/strict';
import t, { type Test } from 'tap';
import { loadAddon, type Queues, type QueuesEvent } from '../../src/gateway/native.ts';
import { Server } from '../../src/gateway/server.ts';
import type { BackendEvent, StartArgument } from '../../src/gateway/server-messages.ts';
import { parseTarget } from '../../src/protocols/target.ts';
import { optionsFor } from '../support/fake-host.ts';
import { startScriptedNbd } from '../support/scripted-nbd.ts';

const TIMEOUT_MS = 60_000;

/** Queues of one thread that lose their backend at once; `error`: and then do not start. */
function queuesThatLose(tell: (event: QueuesEvent) => void, error?: Error): Queues {
  const stats = { inFlight: 0, writes: 0n, discards: 0n, writeZeroes: 0n };
  const queues: Partial<Queues> = {
    start: async () => {
      tell({ kind: 'backend-lost', queue: 0, text: 'the backend closed the connection' });
      await new Promise((resolve) => setImmediate(resolve));
      if (error !== undefined) throw error;
    },
    hold: async () => undefined,
    // Queues are threads: they answer later.
    resume: () => void setImmediate(() => tell({ kind: 'resumed', queue: 0, text: '0' })),
    stats: () => stats as ReturnType<Queues['stats']>,
  };
  return queues as Queues;
}

async function begin(t: Test, error?: Error) {
  const backend = await startScriptedNbd({});
  t.teardown(() => backend.close());
  let tell: (event: QueuesEvent) => void = () => undefined;
  const Queues = function make(_: unknown, told: typeof tell): Queues {
    tell = told;
    return queuesThatLose(told, error);
  } as unknown as ReturnType<typeof loadAddon>['Queues'];
  const told: BackendEvent[] = [];
  let exits = 0;
  const news = { queues: () => undefined, backend: (event: BackendEvent) => void told.push(event) };
  const server = new Server(news, () => void exits++, { ...loadAddon(), Queues });
  const target = parseTarget(backend.target);
  assert(target.kind === 'nbd');
  const options = optionsFor({ target, handshakeTimeoutMs: TIMEOUT_MS, unflushed: 'trust' });
  const opened = await server.handle('open', { options, processors: 1 });
  const { backend: info } = opened as { backend: { sizeBytes: bigint } };
  const shape = { queueCount: 1, depth: 8, maxIoBytes: 65_536, readOnly: false };
  const record = {
    ...{ version: 1, id: 0, token: 'a', phase: 'live', options, backend: info },
    shape: { queues: 1, ...shape, sizeBytes: info.sizeBytes, logicalBlockBytes: 512 },
  };
  const start = {
    ...{ devId: 0, charDevicePath: '/dev/ublkc0', sizeBytes: info.sizeBytes, ...shape },
    ...{ dataPath: 'copy', suppressPartitionScan: false, recovery: false, failing: false, record },
  } as unknown as StartArgument;
  return { server, start, told, tell: (event: QueuesEvent) => tell(event), exits: () => exits };
}

t.test('a loss before the start has ended is followed by a reconnect', async (t) => {
  const { server, start, told, tell, exits } = await begin(t);
  t.equal(await server.handle('start', start), null);
  t.strictSame(told, [], 'its answer comes first');
  while (told.length < 2) await new Promise((resolve) => setImmediate(resolve));
  t.match(told, [{ state: 'HOLDING', text: /closed the connection/ }, { state: 'CONNECTED' }]);
  tell({ kind: 'stopped', queue: 0, text: '' });
  t.equal(exits(), 1);
});

t.test('queues that do not start hold nothing, and their end is heard', async (t) => {
  const { server, start, told, tell, exits } = await begin(t, new Error('no memory'));
  await t.rejects(server.handle('start', start), { code: 'UNBD_SERVER_PROCESS' });
  t.strictSame(told, []);
  tell({ kind: 'stopped', queue: 0, text: '' });
  t.equal(exits(), 1);
});
