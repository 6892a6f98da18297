/**
 * Claim: a mounted ext4 lives through the deaths of backend, server process and controller: what
 * was synced is there, the filesystem is clean, and umount frees the disk.
 * Method: many small files, each with an fsync, while they are killed -9 in turn; the backend
 * forgets what was not flushed.
 */
import assert from 'node:assert/strict';
import { constants, existsSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { isBrief, isFull } from '../support/amount.ts';
import { claim } from '../support/claim.ts';
import { DirectFile, errorOf } from '../support/direct-file.ts';
import { assertClean, makeFilesystem, mountAt } from '../support/filesystem.ts';
import { ForgetfulBackend } from '../support/forgetful-backend.ts';
import { killController, killServerProcess, PATIENTLY, untilState } from '../support/kills.ts';
import { shell, until } from '../support/process.ts';
import { connect, listed } from '../support/product.ts';

const KILLS = isFull ? 20 : isBrief ? 1 : 3;

/** A slow machine writes few of them between two kills. */
const LEAST_FILES = 10;

/** Writes files that hold their own number until STOP is there; prints how many. */
const WRITE_FILES =
  'n=0; while [ ! -e STOP ]; do n=$((n + 1)); echo $n >$n; sync $n; done; echo $n';

claim(`a mounted ext4 survives ${KILLS} kills of each kind`, async (scope) => {
  const backend = await ForgetfulBackend.start(scope, 64);
  const device = await connect(scope, backend.target, ...PATIENTLY);
  await makeFilesystem('ext4', device.path);
  const { folder, unmount } = await mountAt(scope, device.path);
  const writing = shell(`cd '${folder}'; ${WRITE_FILES}`, { timeoutMs: 90_000 * (KILLS + 1) });
  for (let round = 0; round < KILLS; round += 1) {
    await delay(300);
    await backend.kill();
    await untilState(device, /HOLDING/);
    await backend.restart();
    await untilState(device, /CONNECTED/);
    await delay(300);
    await killServerProcess(device);
    await delay(300);
    await killController();
    assert.equal((await listed(device.path)).state, 'CONNECTED');
  }
  await until('it has written some', () => existsSync(`${folder}/${LEAST_FILES + 1}`));
  writeFileSync(`${folder}/STOP`, '');
  const count = Number(await writing);
  assert(count > LEAST_FILES, `${count} files were written`);
  await unmount();
  const takeAlone = (): void =>
    new DirectFile(device.path, constants.O_RDWR | constants.O_EXCL).close();
  // A server process that starts at this moment has a copy of the mount until it drops it.
  await until('umount has freed the disk', () => errorOf(takeAlone) !== 'EBUSY');
  takeAlone();
  await assertClean('ext4', device.path);
  const again = await mountAt(scope, device.path);
  // Thousands, each without a process of its own.
  const right = `for n in $(seq ${count}); do read -r is <$n; [ $is = $n ]; done; ls | wc -l`;
  assert.equal(Number(await shell(`cd '${again.folder}'; ${right}`)), count + 2, 'and no other');
  await again.unmount();
  await device.disconnect();
});
