/**
 * Claim: with --resize a device follows an export that has grown by the time of a reconnect, keeps
 * that size in a recovery, and is FATAL when the export goes back; without, it keeps its size.
 * A kernel that cannot do it is told before anything is done.
 * Method: nbdkit on a file that is truncated to another size while nbdkit is away.
 */
import assert from 'node:assert/strict';
import { release } from 'node:os';
import { freePort, startNbdkit } from '../support/backends.ts';
import { MIB, sysfsText } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { DirectFile, errorOf } from '../support/direct-file.ts';
import { killBackend, killServerProcess, PATIENTLY } from '../support/kills.ts';
import { shell, until } from '../support/process.ts';
import {
  assertRefused,
  connect,
  type Device,
  listed,
  ublkNbd,
  ublkNbdMust,
} from '../support/product.ts';
import type { Scope } from '../support/scope.ts';

interface Growing {
  readonly device: Device;
  /** The backend dies and comes back with so much. */
  restart(size: string): Promise<void>;
}

async function growing(scope: Scope, ...options: readonly string[]): Promise<Growing> {
  const image = scope.path('image');
  const port = await freePort();
  await shell(`truncate -s 16M ${image}`);
  let backend = await startNbdkit(scope, ['file', image], 'tcp', port);
  const device = await connect(scope, backend.target, ...PATIENTLY, ...options);
  const restart = async (size: string): Promise<void> => {
    await killBackend(backend);
    await shell(`truncate -s ${size} ${image}`);
    await until('it holds', async () => (await listed(device.path)).state === 'HOLDING');
    backend = await startNbdkit(scope, ['file', image], 'tcp', port);
    const settled = /CONNECTED|FATAL/;
    await until('it is settled', async () => settled.test((await listed(device.path)).state));
  };
  return { device, restart };
}

const diskBytes = ({ node }: Device) => Number(sysfsText(node, 'size')) * 512;

/** UBLK_U_CMD_UPDATE_SIZE came with Linux 6.16. */
function canResize(): boolean {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  return major > 6 || (major === 6 && minor >= 16);
}

async function refuses(scope: Scope): Promise<void> {
  const { target } = await startNbdkit(scope, ['memory', '16M']);
  const refused = await ublkNbd(['connect', target, '--resize']);
  assertRefused(refused, 'UNBD_USAGE', 2, /no UPDATE_SIZE; boot Linux 6\.16 or newer/);
}

async function grows(scope: Scope): Promise<void> {
  const { device, restart } = await growing(scope, '--resize');
  await restart('32M');
  await until('the disk has grown', () => diskBytes(device) === 32 * MIB);
  await until('list too', async () => (await listed(device.path)).sizeBytes === 32 * MIB);
  const file = new DirectFile(device.path);
  scope.defer(() => file.close());
  const block = Buffer.alloc(4096, 'beyond');
  file.write(31 * MIB, block);
  assert.match(await ublkNbdMust('logs', device.path), /resized: .*16777216 to 33554432 bytes/);

  await killServerProcess(device);
  assert(file.read(31 * MIB, 4096).equals(block));
  await restart('32M');
  file.write(30 * MIB, block);
  file.sync();

  await restart('24M');
  const { state, reason } = await listed(device.path);
  assert.match(`${state} ${reason}`, /^FATAL .*smaller now: 25165824 of 33554432 bytes/);
  assert.equal(
    errorOf(() => file.read(0, 4096)),
    'EIO',
  );
  file.close();
  await device.disconnect('--force');
}

if (canResize()) claim('with --resize it grows, keeps it in a recovery, and never shrinks', grows);
else claim('with --resize a kernel that cannot do it is told', refuses);

claimToo('without it the size stays, and the growth is told', async (scope) => {
  const { device, restart } = await growing(scope);
  await restart('32M');
  assert.equal((await listed(device.path)).state, 'CONNECTED');
  const told = /grown: the export grew from 16777216 to 33554432 bytes; the device keeps its size/;
  await until('it is told', async () => told.test(await ublkNbdMust('logs', device.path)));
  assert.equal(diskBytes(device), 16 * MIB);
  await device.disconnect();
});
