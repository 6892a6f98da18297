/**
 * Claim: an image on a web server is a read-only device with exactly its bytes, which mounts, and
 * which outlives an outage of the web server and the death of its server process.
 * Method: nginx and lighttpd serve raw images by http and https; checksums of the whole device and
 * of mounted trees, fio verify of what fio wrote into an image; nginx killed -9 and started again,
 * the server process killed -9, under a reader.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { isFull } from '../support/amount.ts';
import { assertSameBytes, dropCaches, MIB, makeImage } from '../support/block.ts';
import { makeCertificate } from '../support/certificate.ts';
import { claim, claimToo } from '../support/claim.ts';
import { DirectFile, errorOf } from '../support/direct-file.ts';
import { checksums } from '../support/filesystem.ts';
import { readChecked, writeChecked } from '../support/fio.ts';
import { type ImageKind, makeFilledImage, makePartitioned } from '../support/images.ts';
import { killServerProcess } from '../support/kills.ts';
import { shell, start, until } from '../support/process.ts';
import { assertRefused, connect, listed, ublkNbd, ublkNbdMust } from '../support/product.ts';
import type { Scope } from '../support/scope.ts';
import { makePattern, sentBytes, startLighttpd, startNginx } from '../support/web-servers.ts';

type Form = readonly [kind: ImageKind, server: 'nginx' | 'lighttpd', scheme: 'http' | 'https'];

/** Every kind with every server and with either scheme, and every server with either scheme. */
const FORMS: readonly Form[] = [
  ['ext4', 'nginx', 'http'],
  ['squashfs', 'nginx', 'https'],
  ['xfs', 'lighttpd', 'http'],
  ['iso9660', 'lighttpd', 'https'],
  ['ext4', 'lighttpd', 'https'],
  ['squashfs', 'lighttpd', 'http'],
  ['xfs', 'nginx', 'https'],
  ['iso9660', 'nginx', 'http'],
];
/** The first of the forms have every kind, server and scheme once. */
const forms = isFull ? FORMS : FORMS.slice(0, 4);

/** A folder for a web server. */
function makeFolder(scope: Scope): string {
  const folder = scope.path('www');
  mkdirSync(folder);
  return folder;
}

/** Mounts; the scope unmounts if the test does not. */
async function mounted(
  scope: Scope,
  url: string,
  ...options: readonly string[]
): Promise<{ readonly path: string; readonly folder: string }> {
  const folder = scope.path('mnt');
  mkdirSync(folder);
  const path = (await ublkNbdMust('mount', url, folder, ...options)).trim();
  scope.defer(async () => void (await ublkNbd(['umount', folder])));
  return { path, folder };
}

function assertRefusesWrites(path: string): void {
  const file = new DirectFile(path);
  const code = errorOf(() => file.write(0, Buffer.alloc(4096)));
  file.close();
  assert.notEqual(code, 'none', 'nobody can write to it');
}

/** What the kernel asks for at once, and reads ahead, is a fill unit and two. */
function assertSuitsTheFillUnit(path: string, unitBytes: number): void {
  const limit = (name: string): number =>
    Number(readFileSync(`/sys/block/${basename(path)}/queue/${name}`, 'utf8'));
  assert.equal(limit('optimal_io_size'), unitBytes);
  assert.equal(limit('read_ahead_kb'), (2 * unitBytes) / 1024);
}

for (const [n, [kind, server, scheme]] of forms.entries()) {
  // The first forms of either scheme; the kernel's part differs by the kind of file system.
  const claimIt = n < 2 ? claim : claimToo;
  claimIt(`${kind} on ${server} by ${scheme} mounts and has its bytes`, async (scope) => {
    const www = makeFolder(scope);
    const image = await makeFilledImage(scope, kind, `${www}/disk.img`);
    const tls = scheme === 'https' ? await makeCertificate(scope) : undefined;
    const isNginx = server === 'nginx';
    const web = await (isNginx ? startNginx(scope, www, { tls }) : startLighttpd(scope, www, tls));
    // A process of more resident memory than 256 MiB is beyond the kernel that CI has beside QEMU.
    const memory = ['--cache-memory', kind === 'xfs' ? '32M' : '80M'];
    const isSmall = kind === 'iso9660';
    if (isSmall) memory.push('--fill-unit', '256K');
    const trust = tls === undefined ? [] : ['--ca-file', tls.authority];
    const { path, folder } = await mounted(scope, web.url('disk.img'), ...memory, ...trust);
    assert.equal(await checksums(folder), image.checksums);
    await assertSameBytes(path, image.path);
    const { size } = statSync(image.path);
    const counters = (await listed(path, '-v')).details?.counters;
    assert(Number(counters?.fetchedBytes) >= size, 'what was fetched is counted');
    if (isNginx && kind !== 'xfs') {
      assert.equal(Number(counters?.fetchedBytes), size, 'each byte is fetched once');
      // And one when it was opened.
      assert.equal(sentBytes(web, '/disk.img'), size + 1, 'nginx says so too');
    }
    assertRefusesWrites(path);
    assertSuitsTheFillUnit(path, isSmall ? MIB / 4 : MIB);
    await ublkNbdMust('umount', folder);
    assert.match(await ublkNbdMust('info', web.url('disk.img'), ...trust), /mode +read-only/);
    if (tls === undefined) return;
    const untrusted = await ublkNbd(['info', web.url('disk.img')]);
    assertRefused(untrusted, 'UNBD_EXPORT_REFUSED', 7, /--ca-file/);
  });
}

claimToo('a partition of an image mounts by its number', async (scope) => {
  const www = makeFolder(scope);
  const filler = scope.path('filler');
  await makeImage(filler, 3 * MIB);
  const image = await makeFilledImage(scope, 'ext4', scope.path('part.img'));
  await makePartitioned(`${www}/disk.img`, [filler, image.path]);
  const web = await startNginx(scope, www);
  const { path, folder } = await mounted(scope, web.url('disk.img'), '--partition', '2');
  assert.equal(await checksums(folder), image.checksums);
  await assertSameBytes(path, `${www}/disk.img`);
  await ublkNbdMust('umount', folder);
});

claimToo('random reads of every size verify', async (scope) => {
  const www = makeFolder(scope);
  const image = `${www}/disk.img`;
  await writeChecked(image, '48m');
  const web = await startNginx(scope, www);
  const device = await connect(scope, web.url('disk.img'), '--cache-memory', '16M');
  const size = '48m';
  await readChecked(device.path, { size, rw: 'randread', bsrange: '4k-1m', iodepth: 32 });
  await readChecked(device.path, { size, rw: 'read', bs: '64k', iodepth: 8 });
  await device.disconnect();
});

claimToo('no read fails while nginx and the server process are killed', async (scope) => {
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
  web = await startNginx(scope, folder, { port: web.port });
  await until('it is served', async () => (await listed(device.path)).state === 'CONNECTED');
  await killServerProcess(device);
  assert.equal((await load.exited).status, 0, 'no read failed');
  await dropCaches();
  await assertSameBytes(device.path, image);
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
  assert.match((await listed(device.path)).reason ?? '', /is another object now.*\(ESTALE\)$/);
  assert.match(await ublkNbdMust('logs', device.path), /fatal: .*\(ESTALE\)/);
  file.close();
  await device.disconnect();
});
