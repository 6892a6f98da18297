/**
 * Claim: with --prefetch full the whole image comes to disk while the device is in use, each byte
 * once, also after the server process was killed; from then on nobody needs the web server.
 * Method: nginx's log counts what it sends, and nginx is killed at the end.
 */
import assert from 'node:assert/strict';
import { assertSameBytes, dropCaches, MIB } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { serverPid, untilServedByAnother } from '../support/kills.ts';
import { shell, until } from '../support/process.ts';
import { connect, type Device, listed, ublkNbd } from '../support/product.ts';
import type { Scope } from '../support/scope.ts';
import { makePattern, sentBytes, startNginx } from '../support/web-servers.ts';

const NAME = 'pattern.img';
const MEBIBYTES = 48;

async function prefetched(scope: Scope, ...options: readonly string[]) {
  const [folder, image] = await makePattern(scope, MEBIBYTES);
  const web = await startNginx(scope, folder);
  const words = ['--cache', scope.path('cache'), '--cache-memory', '64M', '--prefetch', 'full'];
  const device = await connect(scope, web.url(NAME), ...words, ...options);
  const endNginx = async () => {
    web.running.kill('SIGKILL');
    await web.running.exited;
  };
  return { web, image, device, endNginx };
}

async function prefetchedBytes(device: Device): Promise<number> {
  return Number((await listed(device.path, '-v')).details?.counters.prefetchedBytes);
}

async function untilWhole(device: Device): Promise<void> {
  await until('all is there', async () => (await prefetchedBytes(device)) === MEBIBYTES * MIB);
}

async function assertServes(device: Device, image: string): Promise<void> {
  await dropCaches();
  await assertSameBytes(device.path, image);
}

claim('all of it comes once, beside a reader, and then the web server may go', async (scope) => {
  const { web, image, device, endNginx } = await prefetched(scope);
  await shell(`dd if=${device.path} of=/dev/null bs=1M skip=20 count=8 status=none`);
  await untilWhole(device);
  assert.equal(sentBytes(web, `/${NAME}`), MEBIBYTES * MIB + 1, 'each byte is fetched once');
  await endNginx();
  await assertServes(device, image);
  assert.equal((await listed(device.path)).state, 'CONNECTED');
  await device.disconnect();
});

claimToo('it goes on after a kill, at the rate that it was given', async (scope) => {
  const words = ['--prefetch-rate', '2M', '--fill-unit', '256K'];
  const { web, image, device, endNginx } = await prefetched(scope, ...words);
  const sent = () => sentBytes(web, `/${NAME}`);
  const pid = await serverPid(device);
  await until('it has begun', () => sent() > 4 * MIB);
  process.kill(pid, 'SIGKILL');
  assert(sent() < MEBIBYTES * MIB, 'it had not ended');
  await untilServedByAnother(device, pid);
  await untilWhole(device);
  // What had not become durable at the kill, a second of it and a few fills, is fetched again.
  assert(sent() <= (MEBIBYTES + 24) * MIB);
  await endNginx();
  await assertServes(device, image);
  await device.disconnect();
});

claimToo('a cache that is too small for it ends the connect, with the cure', async (scope) => {
  const [folder] = await makePattern(scope, 65);
  const web = await startNginx(scope, folder);
  const words = ['--cache', scope.path('cache'), '--cache-size', '64M', '--prefetch', 'full'];
  const { status, stderr } = await ublkNbd(['connect', web.url(NAME), ...words]);
  assert.equal(status, 2);
  assert.match(stderr, /does not hold the image.*add --cache-size 66M \[UNBD_USAGE\]/);
});
