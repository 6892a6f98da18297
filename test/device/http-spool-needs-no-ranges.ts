/**
 * Claim: an image on a web server that sends no ranges is refused with the cure, and with --spool
 * it is on disk before there is a device, which then needs the server no more; an interruption
 * leaves a cache that is whole as far as it goes.
 * Method: nginx with max_ranges 0, which is killed once the device is there.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { assertSameBytes, dropCaches, MIB } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { killServerProcess } from '../support/kills.ts';
import { shell, until } from '../support/process.ts';
import {
  assertRefused,
  connect,
  type Device,
  listed,
  startUblkNbd,
  ublkNbd,
  ublkNbdMust,
} from '../support/product.ts';
import { makePattern, sentBytes, startNginx } from '../support/web-servers.ts';

const NAME = 'pattern.img';
const MEBIBYTES = 48;
const NO_RANGES = 'max_ranges 0;';

async function assertServes(device: Device, image: string): Promise<void> {
  await dropCaches();
  await assertSameBytes(device.path, image);
}

claim('it is downloaded once, and then served without the web server', async (scope) => {
  const [folder, image] = await makePattern(scope, MEBIBYTES);
  const web = await startNginx(scope, folder, { settings: NO_RANGES });
  const refused = await ublkNbd(['connect', web.url(NAME)]);
  assert.equal(refused.status, 7);
  assert.match(
    refused.stderr,
    /sends no ranges.*add --spool --cache DIR.*\[UNBD_EXPORT_UNUSABLE\]/,
  );

  const words = ['--spool', '--cache', scope.path('cache')];
  const device = await connect(scope, web.url(NAME), ...words);
  assert(sentBytes(web, `/${NAME}`) >= MEBIBYTES * MIB, 'all of it has come');
  web.running.kill('SIGKILL');
  await web.running.exited;
  await assertServes(device, image);
  const counters = (await listed(device.path, '-v')).details?.counters;
  assert.equal(Number(counters?.fetchedBytes), 0, 'nothing else was asked for');
  await killServerProcess(device);
  await assertServes(device, image);
  await device.disconnect();
});

claimToo('where the disk has no room for it, nothing is downloaded', async (scope) => {
  const [folder] = await makePattern(scope, MEBIBYTES);
  const web = await startNginx(scope, folder, { settings: NO_RANGES });
  const small = scope.path('small');
  await shell(`mkdir ${small}; mount -t tmpfs -o size=${MEBIBYTES + 1}M tmpfs ${small}`);
  scope.defer(async () => void (await shell(`umount ${small}`)));
  const words = ['--spool', '--cache', `${small}/cache`];
  const outcome = await ublkNbd(['connect', web.url(NAME), ...words]);
  assertRefused(outcome, 'UNBD_USAGE', 2, /has no room for the image.*cache prune/);
  // A 200 that is broken off has filled the sockets' buffers on its way.
  assert(sentBytes(web, `/${NAME}`) < (MEBIBYTES * MIB) / 2, 'no more than what tells its size');
});

claimToo('an interrupted download is valid as far as it goes, and begins anew', async (scope) => {
  const [folder, image] = await makePattern(scope, MEBIBYTES);
  const slow = await startNginx(scope, folder, { settings: `${NO_RANGES} limit_rate 6m;` });
  const cache = scope.path('cache');
  const words = ['--spool', '--cache', cache, '--fill-unit', '64K'];
  const running = startUblkNbd(scope, ['connect', slow.url(NAME), ...words]);
  const kept = async (): Promise<number> => {
    const names = await shell(`ls ${cache} 2>/dev/null || true`);
    return names === '' ? 0 : Number(await shell(`stat -c %b ${cache}/*/data`)) * 512;
  };
  await until('some of it is there', async () => (await kept()) > 20 * MIB);
  running.kill('SIGINT');
  const { status, stdout } = await running.exited;
  assert.equal(status, 130);
  assert.equal(stdout, '');
  slow.running.kill('SIGKILL');
  await slow.running.exited;
  assert.equal(readdirSync(cache).length, 1);
  await until('nobody uses it', async () => {
    const told = JSON.parse(await ublkNbdMust('cache', 'verify', cache, '--json'));
    assert.equal(Number(told.droppedBytes), 0);
    return (
      told.entries[0].outcome === 'checked' && Number(told.entries[0].checkedBytes) >= 16 * MIB
    );
  });
  await startNginx(scope, folder, { port: slow.port, settings: NO_RANGES });
  const device = await connect(scope, slow.url(NAME), ...words);
  await assertServes(device, image);
  await device.disconnect();
});
