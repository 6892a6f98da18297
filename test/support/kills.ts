/**
 * Owns: the deaths that tests cause, of server processes and of the controller, and waiting for
 * what has to come of them.
 * Runs in: device test processes, as root.
 * Must not: take a recovery for one before the successor is another process.
 */
import assert from 'node:assert/strict';
import { isFull, isSlow } from './amount.ts';
import type { Backend } from './backends.ts';
import { anyServerPid, controllerPid, sparePid } from './leftovers.ts';
import { until } from './process.ts';
import { type Device, listed, ublkNbdMust } from './product.ts';

/**
 * Where requests have to wait for a backend that is killed and started again: the default options,
 * but in the short forms more than their 30 s, which a slow machine that stands still may exceed.
 */
export const PATIENTLY: readonly string[] = isSlow && !isFull ? ['--reconnect-delay', '200'] : [];

/** For who may have ended before, on a machine that stood still. */
export function killIfAlive(pid: number, signal: NodeJS.Signals = 'SIGKILL'): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

export async function serverPid({ path }: Device): Promise<number> {
  return (await listed(path)).serverPid;
}

export async function untilState(device: Device, wanted: RegExp): Promise<void> {
  await until(`it is ${wanted.source}`, async () => wanted.test((await listed(device.path)).state));
}

/** The pid of the successor. */
export async function untilServedByAnother(device: Device, pid: number): Promise<number> {
  let now = pid;
  await until('a successor serves', async () => {
    const { state, serverPid: found } = await listed(device.path);
    assert.match(state, /^(CONNECTED|RECOVERING|HOLDING)$/);
    now = found;
    return state === 'CONNECTED' && now !== pid;
  });
  return now;
}

/** Kills a backend that is a child of the test, and waits until it is dead. */
export async function killBackend(backend: Backend): Promise<void> {
  process.kill(backend.pid, 'SIGKILL');
  await backend.stop();
}

/** Kills the server process with `signal`; waits for the next. */
export async function killServerProcess(
  device: Device,
  signal: NodeJS.Signals = 'SIGKILL',
): Promise<void> {
  const pid = await serverPid(device);
  process.kill(pid, signal);
  await untilServedByAnother(device, pid);
}

/** Kills the controller; the next command starts another. */
export async function killController(): Promise<void> {
  const pid = controllerPid();
  assert(pid !== undefined, 'a controller runs');
  process.kill(pid, 'SIGKILL');
  await until('the controller is dead', () => controllerPid() !== pid);
}

/** Ends the controller, once there is no device, and waits until nothing of ublk-nbd runs. */
export async function endController(): Promise<void> {
  const pid = controllerPid();
  if (pid !== undefined) killIfAlive(pid, 'SIGTERM');
  const isAny = () =>
    [controllerPid(), sparePid(), anyServerPid()].some((pid) => pid !== undefined);
  await until('nothing runs', () => !isAny());
}

/** How often the log says that a device of this path got its backend back. */
export async function replays(device: Device): Promise<number> {
  const log = await ublkNbdMust('logs', device.path);
  return log.match(/replayed: \d+ requests/g)?.length ?? 0;
}
