/**
 * Owns: `disconnect`: the way from a device back to nothing, and the parts of it that an undo
 * needs.
 * Runs in: the controller and `connect --foreground`.
 * Must not: stop a disk that is in use without force, or wait without a bound.
 */
import { rm } from 'node:fs/promises';
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import { unlessAborted } from '../protocols/unless-aborted.ts';
import { releaseDevice } from './claim.ts';
import type { Device } from './device.ts';
import { blockPath } from './device-name.ts';
import { type DisconnectHow, Drain } from './drain.ts';
import { drainDisk, endedByDrain, Hurry, refuseWhileOpen } from './drain-disk.ts';
import { endServerProcess } from './end-process.ts';
import type { Host } from './host.ts';
import { recoverOrBury } from './lost.ts';
import type { DeviceState } from './messages.ts';
import { isRecoverable } from './recovery-policy.ts';
import type { DeviceRecord } from './registry.ts';
import { unflushedLogPath } from './run-dir.ts';

/** The server process says goodbye to the backend, and that may take an answer. */
const GOODBYE_TIMEOUT_MS = 10_000;

/**
 * Flushes, stops and removes. Throws UNBD_DEVICE_BUSY, with who holds it, while the disk is in use;
 * UNBD_DATA_LOST when the device is gone, and with it what was written.
 */
export async function endDevice(host: Host, device: Device, how: DisconnectHow): Promise<void> {
  const drain = new Drain(device, how);
  try {
    const recovers = device.state === 'RECOVERING' && device.record.phase !== 'stopping';
    if (how.force) device.giveUp();
    else if (recovers) await refuseWhileOpen(host, device.id, drain);
    const free = unlessAborted(device.exclusive(NOTHING_YET), drain.interrupted);
    await (recovers ? endedByDrain(device, drain, free) : free);
    await device.exclusive(async () => {
      if (host.devices.get(device.id) !== device) return;
      await disconnectDevice(host, device, drain);
    });
  } catch (error) {
    throw withHolders(host, device, error);
  } finally {
    drain.end();
  }
}

const NOTHING_YET = async (): Promise<void> => undefined;

/** The caller holds the device's `exclusive`. */
async function disconnectDevice(host: Host, device: Device, drain: Drain): Promise<void> {
  const { state, record } = device;
  let loss: GatewayError | undefined;
  if (state !== 'DEAD') {
    device.setState('STOPPING', record.reason);
    device.update({ phase: 'stopping' });
    try {
      if (drain.force) await stopByForce(host, device, drain);
      else loss = await drainDisk(host, device, drain);
    } catch (error) {
      const isServed = (await device.serverProcess?.waitForExit(0)) === false;
      if (isServed || mustBeFlushed(device, drain)) {
        await takeBack(host, device, state, record);
        throw error;
      }
    }
    await untilGoodbye(device, drain);
  }
  const isClean = !drain.force && loss === undefined;
  await cleanUp(host, device, isClean ? 'wait' : 'leave-to-holders');
  if (loss !== undefined) host.log('error', device.id, loss.line);
  host.tell('disconnected', device.id, record.options.target.text);
  host.spares.balance();
  if (loss !== undefined) throw loss;
}

/** STOP waits for what is in flight; where the flush was too long, that ends when we fail it. */
async function stopByForce(host: Host, device: Device, drain: Drain): Promise<void> {
  const hurry = new Hurry(device, drain.timeoutMs);
  try {
    await host.control.forceDisconnect(device.id, drain.timeoutMs);
  } finally {
    hurry.end();
  }
}

/** Its queues have been told to end; it says goodbye to the backend and ends. */
async function untilGoodbye({ serverProcess }: Device, drain: Drain): Promise<void> {
  const ended = serverProcess?.waitForExit(GOODBYE_TIMEOUT_MS) ?? Promise.resolve(true);
  await unlessAborted(ended, drain.over).catch(() => undefined);
}

/** What its disk holds waits for a successor; it is not given up because nobody serves it now. */
function mustBeFlushed(device: Device, drain: Drain): boolean {
  const isGivenUp = drain.force || drain.over.aborted || device.state === 'DEAD';
  return !isGivenUp && isRecoverable(device.record.shape?.flags);
}

/** It could not be stopped, and stays; its server process may have died in between. */
async function takeBack(
  host: Host,
  device: Device,
  state: DeviceState,
  { phase, reason }: DeviceRecord,
): Promise<void> {
  if (device.state !== 'STOPPING') return;
  device.goOn(state, reason);
  device.update({ phase });
  if (await device.serverProcess?.waitForExit(0)) {
    await recoverOrBury(host, device, 'the server process ended during a disconnect');
  }
}

/**
 * What is left once nobody uses the disk, or nobody can. Who holds a disk that was stopped by force
 * keeps its number busy until they let go; that can be left to them.
 */
export async function cleanUp(
  host: Host,
  device: Device,
  release: 'wait' | 'leave-to-holders' = 'wait',
): Promise<void> {
  const { id, record } = device;
  await endServerProcess(host, device);
  if (release === 'wait') await removeFromDriver(host, id);
  else await host.control.delAsync(id);
  if (record.options.name !== undefined) await host.nodes.removeLink(record.options.name, id);
  await host.nodes.remove(record.madeNodes);
  // Of a server process that was killed.
  await rm(unflushedLogPath(id), { force: true }).catch(() => undefined);
  releaseDevice(host, device);
}

/** DEL_DEV; where somebody holds the device open, it goes when they close it. */
export async function removeFromDriver(host: Host, id: number): Promise<void> {
  try {
    await host.control.del(id);
  } catch (error) {
    host.log('warning', id, `still in use: ${asGatewayError(error).line}`);
    await host.control.delAsync(id);
  }
}

function withHolders(host: Host, device: Device, error: unknown): GatewayError {
  const cause = asGatewayError(error);
  if (cause.code !== 'UNBD_DEVICE_BUSY') return cause;
  const { users } = host.nodes.findHolders(device.id);
  const what = users === '' ? 'is in use' : `is in use: ${users}`;
  return new GatewayError('UNBD_DEVICE_BUSY', `${blockPath(device.id)} ${what}`, {
    hint: `end that, or run: ublk-nbd disconnect --force ${device.id}`,
    cause,
  });
}
