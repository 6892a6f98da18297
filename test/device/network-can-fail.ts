/**
 * Claim: whatever the network between a device and its backend does, readers and writers see a
 * pause and no error, and every byte is right.
 * Method: fio with its checksums while connections are reset from outside, all of them or one, by a
 * proxy; and while the link to another network namespace loses packets, or is down.
 */
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { isBrief, isFull, isLeast } from '../support/amount.ts';
import { BackendProxy } from '../support/backend-proxy.ts';
import { claim, claimToo } from '../support/claim.ts';
import { FarNetwork } from '../support/far-network.ts';
import { PATIENTLY, replays, untilState } from '../support/kills.ts';
import { until } from '../support/process.ts';
import { connect } from '../support/product.ts';
import { SlowNbdkit } from '../support/slow-nbdkit.ts';
import { verifyThrough } from '../support/under-load.ts';

const CUTS = isFull ? 50 : isLeast ? 2 : isBrief ? 4 : 10;
const OUTAGE_MS = isBrief ? 2000 : 5000;
const SIZE = '16M';

const queues = Math.min(4, availableParallelism());
const ofQueues = queues === 4 ? 'of four' : `of ${queues} (as many as there are processors)`;

claim(`fio verifies while all connections, or one ${ofQueues}, are reset`, async (scope) => {
  const backend = await SlowNbdkit.start(scope, 64);
  const proxy = await BackendProxy.start(scope, backend.target);
  const device = await connect(scope, proxy.target, '--queues', String(queues), ...PATIENTLY);
  const before = await replays(device);
  const fail = async (round: number): Promise<void> => {
    await until('every queue has its connection', () => proxy.connections === queues);
    if (round % 2 === 0) proxy.reset();
    else proxy.reset(1);
    await until('it is replayed', async () => (await replays(device)) > before + round);
    await untilState(device, /CONNECTED/);
  };
  await verifyThrough(device, CUTS, fail, { size: SIZE, isAtWork: backend.isAtWork });
  assert((await replays(device)) >= before + CUTS, 'each cut was replayed');
  await device.disconnect();
});

claim('fio verifies while the link loses 5 %, then everything, then is down', async (scope) => {
  const network = await FarNetwork.make(scope);
  const backend = await SlowNbdkit.start(scope, 64, network);
  const device = await connect(scope, backend.target, ...PATIENTLY);
  const fail = async (round: number): Promise<void> => {
    if (round === 2) await network.link('down');
    else await network.lose(round === 0 ? 5 : 100);
    await delay(OUTAGE_MS);
    if (round === 2) await network.link('up');
    else await network.loseNothing();
  };
  await verifyThrough(device, 3, fail, { size: SIZE, isAtWork: backend.isAtWork });
  await device.disconnect();
});

claimToo(
  'with --request-timeout a dead link is a lost backend, which comes back',
  async (scope) => {
    const network = await FarNetwork.make(scope);
    const backend = await SlowNbdkit.start(scope, 64, network);
    // Above what a request takes on a slow machine, which would lose its backend again and again.
    const options = ['--request-timeout', '5', ...PATIENTLY];
    const device = await connect(scope, backend.target, ...options);
    const fail = async (): Promise<void> => {
      await network.lose(100);
      await untilState(device, /HOLDING/);
      await network.loseNothing();
      await untilState(device, /CONNECTED/);
    };
    await verifyThrough(device, 1, fail, { size: SIZE, isAtWork: backend.isAtWork });
    await device.disconnect();
  },
);
