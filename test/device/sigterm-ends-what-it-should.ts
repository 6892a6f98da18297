/**
 * Claim: SIGTERM does the right thing to each process: a controller goes and its devices go on, a
 * server process is replaced, a foreground device and a waiting command end cleanly; and after
 * `disconnect --all` and the end of the controller nothing is left.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { startNbdkit } from '../support/backends.ts';
import { claim, claimToo } from '../support/claim.ts';
import { DirectFile } from '../support/direct-file.ts';
import { killServerProcess } from '../support/kills.ts';
import { controllerPid } from '../support/leftovers.ts';
import { startMute } from '../support/mute-backend.ts';
import { describe, until } from '../support/process.ts';
import { connect, list, listed, startUblkNbd, ublkNbd, ublkNbdMust } from '../support/product.ts';

const runFolder = process.env.UBLK_NBD_RUN_DIR ?? '/run/ublk-nbd';

async function endController(): Promise<void> {
  const pid = controllerPid();
  assert(pid !== undefined, 'a controller runs');
  process.kill(pid, 'SIGTERM');
  await until('the controller has ended', () => controllerPid() === undefined);
}

/** Every process of ublk-nbd. */
function processes(): string[] {
  return readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return [];
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      return /ublk-nbd(-helper|: )|(server|controller)-main/.test(command) ? [command] : [];
    } catch {
      return [];
    }
  });
}

function filesIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

claim('SIGTERM to the controller: it ends, its devices go on', async (scope) => {
  const backend = await startNbdkit(scope, ['memory', '16M']);
  const device = await connect(scope, backend.target);
  const { serverPid } = await listed(device.path);
  await endController();
  const file = new DirectFile(device.path);
  const block = Buffer.alloc(4096, 'on');
  file.write(0, block);
  assert(file.read(0, 4096).equals(block));
  file.close();
  const { state, serverPid: after } = await listed(device.path);
  assert.deepEqual([state, after], ['CONNECTED', serverPid]);
  await device.disconnect();
});

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  claimToo(`${signal} to the controller while it drains: the device goes on`, async (scope) => {
    const backend = await startNbdkit(scope, ['memory', '16M']);
    const device = await connect(scope, backend.target, '--reconnect-delay', 'inf');
    const file = new DirectFile(device.path);
    file.write(0, Buffer.alloc(4096, 'on'));
    file.close();
    process.kill(backend.pid, 'SIGKILL');
    await until('it holds', async () => (await listed(device.path)).state === 'HOLDING');
    const running = startUblkNbd(scope, ['disconnect', device.path, '--drain-timeout', '120']);
    await until('it drains', async () => (await listed(device.path)).state === 'STOPPING');
    const pid = controllerPid();
    assert(pid !== undefined);
    process.kill(pid, signal);
    const outcome = await running.exited;
    assert.equal(outcome.status, 11, describe(outcome));
    await until('it goes on', async () => (await listed(device.path)).state === 'HOLDING');
    const last = await ublkNbd(['disconnect', device.path, '--drain-timeout', '1']);
    assert.equal(last.status, 13, `and can be ended: ${describe(last)}`);
  });
}

claimToo('SIGTERM to a server process: another takes over, as often as it comes', async (scope) => {
  const backend = await startNbdkit(scope, ['memory', '16M']);
  const device = await connect(scope, backend.target);
  for (let count = 0; count < 6; count += 1) {
    await killServerProcess(device, 'SIGTERM');
  }
  await device.disconnect();
});

claimToo('SIGTERM to a foreground process and its server process at once', async (scope) => {
  const backend = await startNbdkit(scope, ['memory', '16M']);
  const running = startUblkNbd(scope, ['connect', '--foreground', backend.target]);
  await until('it is connected', () => /^\/dev\/ublkb\d+\n/.test(running.stdout()), 120_000);
  const path = running.stdout().trim();
  const file = new DirectFile(path);
  file.write(0, Buffer.alloc(4096, 'kept'));
  file.close();
  const { serverPid } = await listed(path);
  process.kill(serverPid, 'SIGTERM');
  running.kill('SIGTERM');
  const outcome = await running.exited;
  assert.equal(outcome.status, 0, describe(outcome));
  assert(!existsSync(path));
  assert.deepEqual(await list(), []);
});

claimToo('SIGTERM to a connect that waits leaves nothing', async (scope) => {
  const backend = await startMute(scope);
  const words = ['connect', backend.target, '--handshake-timeout', '120'];
  const running = startUblkNbd(scope, words);
  await until('it waits', () => backend.connections() > 0, 120_000);
  running.kill('SIGTERM');
  assert.equal((await running.exited).status, 130);
});

claimToo('after disconnect --all and the end of the controller nothing is left', async (scope) => {
  const backend = await startNbdkit(scope, ['memory', '16M']);
  await connect(scope, backend.target, '--name', 'one');
  await connect(scope, 'memory:16M');
  await connect(scope, 'null:16M');
  await ublkNbdMust('disconnect', '--all');
  assert.deepEqual(await list(), []);
  await endController();
  await until('every process has ended', () => processes().length === 0);
  assert.deepEqual(filesIn(`${runFolder}/devices`), []);
  assert.deepEqual(filesIn(`${runFolder}/unflushed`), []);
  assert.deepEqual(filesIn(`${runFolder}/log`), ['ublk-nbd.log']);
  // Of a test before: who replaced a controller.
  const rest = filesIn(runFolder).filter((name) => name !== 'upgrade.lock');
  assert.deepEqual(rest.sort(), ['controller.lock', 'devices', 'log', 'unflushed']);
  assert.deepEqual(filesIn('/dev/ublk-nbd'), []);
});
