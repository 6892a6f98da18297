/**
 * Claim: what a server process had queued for its backend when it was killed does not come after
 * its death over TCP; over a unix socket it may, as docs/SEMANTICS.md says.
 * Method: a proxy in front of nbdkit that stops reading until the server process is dead and its
 * successor has done the work.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { BackendProxy } from '../support/backend-proxy.ts';
import { startNbdkit } from '../support/backends.ts';
import { KIB } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { fioWords } from '../support/fio.ts';
import { killServerProcess } from '../support/kills.ts';
import { must, start, until } from '../support/process.ts';
import { connect } from '../support/product.ts';
import { inFlight } from '../support/under-load.ts';

/** Into a window that is nearly closed TCP sends what fits when a timer of 0.2 s and more fires. */
const LOOK_AGAIN_MS = 500;
const SAME_LOOKS = 4;

interface Queued {
  /** Arrived at the proxy, and unread. */
  receivedBytes: number;
  /** Not sent yet. */
  sentBytes: number;
}

/** What ss(8) tells of the established connections to the proxy. */
async function queued(
  filter: readonly string[],
  isNear: (line: string) => boolean,
): Promise<Queued> {
  const sum: Queued = { receivedBytes: 0, sentBytes: 0 };
  for (const line of (await must(['ss', '-nH', ...filter])).split('\n')) {
    const columns = line.trim().split(/\s+/);
    const numbers = columns.filter((word) => /^\d+$/.test(word)).map(Number);
    if (isNear(line)) sum.receivedBytes += numbers[0] ?? 0;
    else sum.sentBytes += numbers[1] ?? 0;
  }
  return sum;
}

claim('over TCP no byte arrives that was queued', async (scope) => {
  const proxy = await BackendProxy.start(
    scope,
    (await startNbdkit(scope, ['memory', '64M'])).target,
  );
  const device = await connect(scope, proxy.target, '--queues', '1');
  const unread = proxy.leaveUnread();
  const options = { rw: 'write', bs: '1m', iodepth: 32, size: '64M' };
  const writing = start(scope, fioWords({ path: device.path, options }));
  const port = proxy.target.split(':')[1] ?? '';
  const look = (): Promise<Queued> =>
    queued(['-t', `( sport = :${port} or dport = :${port} )`], (line) =>
      new RegExp(`:${port}\\s+\\S+:\\d+$`).test(line.trim()),
    );
  let last: Queued = { receivedBytes: 0, sentBytes: 0 };
  let sameLooks = 0;
  await until('the sockets are full', async () => {
    await delay(LOOK_AGAIN_MS);
    const before = last;
    last = await look();
    const isFull = last.sentBytes > 64 * KIB && last.receivedBytes === before.receivedBytes;
    sameLooks = isFull ? sameLooks + 1 : 0;
    return sameLooks >= SAME_LOOKS;
  });
  const before = unread.bytesRead();
  await killServerProcess(device);
  await unread.readAll();
  const arrived = unread.bytesRead() - before;
  assert(arrived <= last.receivedBytes, `${arrived} bytes of ${JSON.stringify(last)}`);
  assert.equal((await writing.exited).status, 0);
  await device.disconnect();
});

claimToo('over a unix socket a write may come late, and over a later one', async (scope) => {
  const path = scope.path('proxy.sock');
  const { target } = await startNbdkit(scope, ['memory', '16M']);
  const proxy = await BackendProxy.start(scope, target, path);
  const device = await connect(scope, proxy.target, '--queues', '1');
  const unread = proxy.leaveUnread();
  const before = unread.bytesRead();
  // By processes of their own: the proxy is in this one.
  const write = (file: string): string[] => {
    const words = [`if=${file}`, `of=${device.path}`, 'bs=4k', 'seek=256', 'oflag=direct'];
    return ['dd', 'status=none', ...words];
  };
  const read = async (): Promise<Buffer> => {
    const words = [`if=${device.path}`, `of=${scope.path('now')}`, 'bs=4k', 'skip=256', 'count=1'];
    await must(['dd', 'status=none', ...words, 'iflag=direct']);
    return readFileSync(scope.path('now'));
  };
  const [earlyBytes, laterBytes] = [Buffer.alloc(4096, 'early'), Buffer.alloc(4096, 'later')];
  writeFileSync(scope.path('early'), earlyBytes);
  writeFileSync(scope.path('later'), laterBytes);
  const early = start(scope, write(scope.path('early')));
  await until('it is in flight', () => inFlight(device).writes > 0);
  await until('it has left', async () => {
    const { receivedBytes } = await queued(['-x', 'src', path], () => true);
    return unread.bytesRead() - before + receivedBytes > 4 * KIB;
  });
  await killServerProcess(device);
  assert.equal((await early.exited).status, 0, 'the successor sent it again');
  await must(write(scope.path('later')));
  assert((await read()).equals(laterBytes));
  await unread.readAll();
  await until('the early one is executed again', async () => (await read()).equals(earlyBytes));
  await device.disconnect();
});
