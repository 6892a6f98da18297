/**
 * Claim: with --cache what was read of an image on a web server is on disk for the next device,
 * and whatever happens to the cache costs no I/O error and no wrong byte.
 * Method: nginx's log counts what it sends; server processes killed -9 while they fill the cache,
 * its disk's power lost at any moment, bytes of it damaged, its file system full or read-only.
 */
import assert from 'node:assert/strict';
import { readdirSync, renameSync } from 'node:fs';
import { isFull } from '../support/amount.ts';
import { assertSameBytes, dropCaches, MIB } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { CrashDisk } from '../support/crash-disk.ts';
import { fioWords } from '../support/fio.ts';
import { endController, killServerProcess } from '../support/kills.ts';
import { must, type Running, shell, start, until } from '../support/process.ts';
import { connect, type Device, listed, ublkNbdMust } from '../support/product.ts';
import { randomFrom } from '../support/random.ts';
import type { Scope } from '../support/scope.ts';
import { makePattern, sentBytes, startNginx, type WebServer } from '../support/web-servers.ts';

const NAME = 'pattern.img';
const CRASHES = isFull ? 10 : 1;
/** What the tests of the parts show as well. */
const claimInLongRuns: typeof claimToo = isFull ? claimToo : () => undefined;

interface Cached {
  readonly web: WebServer;
  readonly image: string;
  readonly cache: string;
  connect(...options: readonly string[]): Promise<Device>;
}

async function cached(
  scope: Scope,
  mebibytes: number,
  memory: string,
  cache = scope.path('cache'),
): Promise<Cached> {
  const [folder, image] = await makePattern(scope, mebibytes);
  const web = await startNginx(scope, folder);
  const words = ['--cache', cache, '--cache-memory', memory];
  const connectCached = (...options: readonly string[]) =>
    connect(scope, web.url(NAME), ...words, ...options);
  return { web, image, cache, connect: connectCached };
}

async function assertServes(device: Device, image: string): Promise<void> {
  await dropCaches();
  await assertSameBytes(device.path, image);
}

async function counter(device: Device, name: string): Promise<number> {
  return Number((await listed(device.path, '-v')).details?.counters[name]);
}

/** What `cache verify` dropped, bytes. */
async function verified(cache: string): Promise<number> {
  let droppedBytes = 0;
  // A server process has its entry to its own end.
  await until('nobody uses it', async () => {
    const told = JSON.parse(await ublkNbdMust('cache', 'verify', cache, '--json'));
    droppedBytes = Number(told.droppedBytes);
    return told.entries[0].outcome === 'checked';
  });
  return droppedBytes;
}

function entryOf(cache: string): string {
  const [name, ...others] = readdirSync(cache);
  assert(name !== undefined && others.length === 0, 'the cache has one entry');
  return `${cache}/${name}`;
}

/** Reads all of it, at a rate that leaves time to fail on the way. */
function startReading(scope: Scope, { path }: Device, rate = '8m'): Running {
  const options = { rw: 'read', bs: '256k', iodepth: 16, rate };
  return start(scope, fioWords({ path, options }));
}

/** A file system of its own for the cache, in a file. */
async function makeSmallDisk(scope: Scope, mebibytes: number): Promise<string> {
  const mountPoint = scope.path('cache');
  const disk = scope.path('cache.disk');
  await shell(`truncate -s ${mebibytes}M ${disk}; mkfs.ext4 -q ${disk}; mkdir ${mountPoint}`);
  await must(['mount', '-o', 'loop', disk, mountPoint]);
  scope.defer(async () => void (await must(['umount', mountPoint])));
  return mountPoint;
}

claim('what one device has read, the next one reads from disk', async (scope) => {
  const { web, image, cache, connect } = await cached(scope, 16, '64M');
  const first = await connect();
  await assertServes(first, image);
  await first.disconnect();
  assert.equal(sentBytes(web, `/${NAME}`), 16 * MIB + 1, 'each byte is fetched once');

  const second = await connect();
  await assertServes(second, image);
  // And one when it was opened.
  assert.equal(sentBytes(web, `/${NAME}`), 16 * MIB + 2, 'and never again');
  assert.equal(await counter(second, 'fetchedBytes'), 0);
  assert.equal(await counter(second, 'cacheReadBytes'), 16 * MIB);
  assert.equal(await counter(second, 'cacheCorruptBytes'), 0);
  const [entry] = JSON.parse(await ublkNbdMust('cache', 'list', cache, '--json'));
  assert.equal(entry.url, web.url(NAME));
  assert.equal(entry.inUse, true);
  await second.disconnect();
  // Its server process has it to its own end.
  const prune = () => ublkNbdMust('cache', 'prune', cache, '--all');
  await until('it is pruned', async () => /1 of 1 entries removed/.test(await prune()));
  assert.deepEqual(readdirSync(cache), []);
});

claimToo(
  'server processes killed while they fill it leave a cache that is whole',
  async (scope) => {
    const { image, cache, connect } = await cached(scope, 64, '16M');
    const device = await connect();
    const load = startReading(scope, device);
    for (const kill of [1, 2]) {
      await until('it fills', async () => (await counter(device, 'cachedBytes')) > kill * 8 * MIB);
      await killServerProcess(device);
    }
    assert.equal((await load.exited).status, 0, 'no read failed');
    await assertServes(device, image);
    assert.equal(await counter(device, 'cacheCorruptBytes'), 0);
    await device.disconnect();
    assert.equal(await verified(cache), 0, 'nothing in it is damaged');
  },
);

claimToo('a machine that crashes while it fills leaves a cache that is whole', async (scope) => {
  const disk = await CrashDisk.make(scope, 160 * MIB);
  scope.defer(endController);
  const cache = `${disk.folder}/cache`;
  const { image, connect } = await cached(scope, 48, '64M', cache);
  const random = randomFrom(20261128);
  for (let crash = 0; crash < CRASHES; crash += 1) {
    const device = await connect();
    const map = `${entryOf(cache)}/map`;
    // A map without holes, as of an entry that was full once: what is written in it makes nothing
    // durable but itself, and not the data that it names.
    const zeroes = `bs=4096 seek=1 count=$(($(stat -c %s ${map}) / 4096 - 1))`;
    await shell(`dd if=/dev/zero of=${map} ${zeroes} conv=notrunc,fsync status=none`);
    const load = startReading(scope, device, '4m');
    const enough = (2 + random(10)) * MIB;
    await until('it fills', async () => (await counter(device, 'cachedBytes')) > enough);
    // As the kernel writes it back whenever it likes.
    await shell(`sync --data ${map}`);
    await disk.losePower();
    assert.equal((await load.exited).status, 0, 'no read failed');
    await device.disconnect();
    await endController();
    await disk.restart();

    assert.equal(await verified(cache), 0, 'the map names nothing that is not there');
    const next = await connect();
    await assertServes(next, image);
    assert((await counter(next, 'cacheReadBytes')) > 0, 'what was durable is used');
    assert((await counter(next, 'fetchedBytes')) > 0, 'what was not is fetched');
    assert.equal(await counter(next, 'cacheCorruptBytes'), 0);
    await next.disconnect();
    await verified(cache);
    await ublkNbdMust('cache', 'prune', cache, '--all');
  }
});

claimToo('what is damaged, or was not whole at a crash, is fetched again', async (scope) => {
  const { image, cache, connect } = await cached(scope, 32, '64M');
  const first = await connect();
  const whole = assertServes(first, image);
  await until('it fills', async () => (await counter(first, 'cachedBytes')) > 4 * MIB);
  // Data that are older than the map that tells of them, as no order of writes leaves them.
  const entry = entryOf(cache);
  const copy = `${cache}.copy`;
  await shell(`cp -a --sparse=always ${entry} ${copy}; sleep 2; cp ${entry}/map ${copy}/map`);
  await whole;
  await first.disconnect();
  await shell(`rm -rf ${entry}; mv ${copy} ${entry}`);
  const second = await connect();
  await assertServes(second, image);
  await second.disconnect();
  assert.equal(await verified(cache), 0, 'it has mended itself');

  await shell(
    `dd if=/dev/urandom of=${entry}/data bs=64k count=8 seek=100 conv=notrunc status=none`,
  );
  const third = await connect();
  await assertServes(third, image);
  assert.equal(await counter(third, 'cacheCorruptBytes'), 512 * 1024);
  await third.disconnect();
  await shell(`dd if=/dev/zero of=${entry}/data bs=64k count=8 seek=50 conv=notrunc status=none`);
  assert.equal(await verified(cache), 512 * 1024, 'what is damaged is found');
  assert.equal(await verified(cache), 0, 'and dropped');
});

claimInLongRuns('an object that has changed has an entry of its own', async (scope) => {
  const { image, cache, connect } = await cached(scope, 16, '32M');
  const first = await connect();
  await assertServes(first, image);
  await first.disconnect();
  const old = entryOf(cache);
  await shell(`sleep 1.1; tr '\\0' x < ${image} > ${image}.new`);
  renameSync(`${image}.new`, image);
  const second = await connect();
  await assertServes(second, image);
  await until('the old one is gone', () => !readdirSync(cache).includes(old.slice(-32)));
  await second.disconnect();
});

claimToo('a second device of an image makes do with memory, and says so', async (scope) => {
  const { image, connect } = await cached(scope, 16, '32M');
  const first = await connect();
  const second = await connect();
  await Promise.all([assertServes(first, image), assertServes(second, image)]);
  assert(Number.isNaN(await counter(second, 'cachedBytes')), 'it has no cache on disk');
  assert.match(await ublkNbdMust('logs', second.path), /not used: another process has the entry/);
  await second.disconnect();
  await first.disconnect();
});

claimToo('a disk that is full, or turns read-only, costs no read', async (scope) => {
  await makeSmallDisk(scope, 32);
  const { image, cache, connect } = await cached(scope, 64, '16M');
  const device = await connect();
  await assertServes(device, image);
  assert((await counter(device, 'cacheSkippedBytes')) > 0, 'not all of it is kept');
  assert.match(await ublkNbdMust('logs', device.path), /warning.*cache on disk/);
  // As a file system does that meets an error of its disk.
  await shell(`mount -o remount,abort ${cache} || mount -o remount,ro ${cache} || true`);
  await assertServes(device, image);
  assert.equal((await listed(device.path)).state, 'CONNECTED');
  await device.disconnect();
});

claimInLongRuns('no more is kept than --cache-size says', async (scope) => {
  const { image, cache, connect } = await cached(scope, 96, '16M');
  const device = await connect('--cache-size', '64M');
  await assertServes(device, image);
  assert((await counter(device, 'cachedBytes')) <= 64 * MIB);
  await assertServes(device, image);
  await device.disconnect();
  const blocks = Number(await shell(`stat -c %b ${entryOf(cache)}/data`));
  assert(blocks * 512 <= 65 * MIB, `${blocks} blocks are in use`);
  assert.equal(await verified(cache), 0);
});
