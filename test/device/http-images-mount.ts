/**
 * Claim: an image on a web server is a read-only device with exactly its bytes, which mounts, and
 * which outlives an outage of the web server and the death of its server process.
 * Method: nginx and lighttpd serve raw images; checksums of the whole device and of mounted trees;
 * nginx killed -9 and started again, the server process killed -9, under a reader.
 */
import assert from 'node:assert/strict';
import { statSync, truncateSync } from 'node:fs';
import { dropCaches, MIB, sha256File } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { DirectFile, errorOf } from '../support/direct-file.ts';
import { checksums, copyTree, FILESYSTEM_BYTES, makeFilesystem } from '../support/filesystem.ts';
import { killServerProcess } from '../support/kills.ts';
import { must, shell, start, until } from '../support/process.ts';
import { connect, listed, ublkNbd, ublkNbdMust } from '../support/product.ts';
import type { Scope } from '../support/scope.ts';
import { makePattern, sentBytes, startLighttpd, startNginx } from '../support/web-servers.ts';

/** The first fits into the memory that it gets, the second does not. */
const IMAGE_BYTES = { ext4: 64 * MIB, xfs: FILESYSTEM_BYTES.xfs } as const;

/** An image with a file system full of files; its path and the checksums of the files. */
async function makeImage(scope: Scope, filesystem: 'ext4' | 'xfs'): Promise<[string, string]> {
  const folder = scope.path('www');
  await must(['mkdir', '-p', folder]);
  const image = `${folder}/disk.img`;
  truncateSync(await touched(image), IMAGE_BYTES[filesystem]);
  await makeFilesystem(filesystem, image);
  const mounted = scope.path('made');
  await shell(`mkdir ${mounted}; mount -o loop ${image} ${mounted}`);
  try {
    await copyTree(mounted, 4);
    return [folder, await checksums(mounted)];
  } finally {
    await shell(`umount ${mounted}`);
  }
}

async function touched(path: string): Promise<string> {
  await must(['touch', path]);
  return path;
}

/** A process of more resident memory than 256 MiB is beyond the kernel that CI has beside QEMU. */
for (const [server, startServer, filesystem, memory] of [
  ['nginx', startNginx, 'ext4', '80M'],
  ['lighttpd', startLighttpd, 'xfs', '32M'],
] as const) {
  const claimIt = server === 'nginx' ? claim : claimToo;
  claimIt(`${filesystem} on ${server} mounts and has its bytes`, async (scope) => {
    const [folder, expected] = await makeImage(scope, filesystem);
    const web = await startServer(scope, folder);
    const mountPoint = scope.path('mnt');
    await must(['mkdir', mountPoint]);
    const words = ['mount', web.url('disk.img'), mountPoint, '--cache-memory', memory];
    const path = (await ublkNbdMust(...words)).trim();
    scope.defer(async () => void (await ublkNbd(['umount', mountPoint])));
    assert.equal(await checksums(mountPoint), expected);
    const image = `${folder}/disk.img`;
    assert.equal(await sha256File(path), await sha256File(image));
    const { size } = statSync(image);
    const counters = (await listed(path, '-v')).details?.counters;
    assert(Number(counters?.fetchedBytes) >= size, 'what was fetched is counted');
    if (server === 'nginx') {
      assert.equal(Number(counters?.fetchedBytes), size, 'each byte is fetched once');
      // And one when it was opened.
      assert.equal(sentBytes(web, '/disk.img'), size + 1, 'nginx says so too');
    }
    const file = new DirectFile(path);
    assert.notEqual(
      errorOf(() => file.write(0, Buffer.alloc(4096))),
      'none',
      'nobody can write to it',
    );
    file.close();
    await ublkNbdMust('umount', mountPoint);
  });
}

claimToo('random reads verify while nginx and the server process are killed', async (scope) => {
  const [folder, image] = await makePattern(scope, 32);
  let web = await startNginx(scope, folder);
  const device = await connect(scope, web.url('pattern.img'), '--cache-memory', '8M');
  const options = ['--rw=randread', '--bsrange=4k-256k', '--iodepth=16', '--time_based'];
  const load = start(scope, [
    'fio',
    '--name=reads',
    `--filename=${device.path}`,
    ...options,
    '--runtime=10',
    '--ioengine=libaio',
    '--direct=1',
    '--readonly',
  ]);
  await until('it reads', () => web.requests().length > 4);
  web.running.kill('SIGKILL');
  await web.running.exited;
  await until('it holds', async () => (await listed(device.path)).state === 'HOLDING');
  web = await startNginx(scope, folder, web.port);
  await until('it is served', async () => (await listed(device.path)).state === 'CONNECTED');
  await killServerProcess(device);
  assert.equal((await load.exited).status, 0, 'no read failed');
  await dropCaches();
  assert.equal(await sha256File(device.path), await sha256File(image));
  await device.disconnect();
});

claimToo('an object that is replaced is never mixed with its successor', async (scope) => {
  const [folder, image] = await makePattern(scope, 16);
  const web = await startNginx(scope, folder);
  const device = await connect(scope, web.url('pattern.img'));
  const file = new DirectFile(device.path);
  scope.defer(() => file.close());
  file.read(0, 4096);
  await shell(`sleep 1.1; tr '\\0' x < ${image} > ${image}.new; mv ${image}.new ${image}`);
  assert.equal(
    errorOf(() => file.read(8 << 20, 4096)),
    'EIO',
  );
  await until('it is FATAL', async () => (await listed(device.path)).state === 'FATAL');
  assert.match((await listed(device.path)).reason ?? '', /is another object now/);
  file.close();
  await device.disconnect();
});
