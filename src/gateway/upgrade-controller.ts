/**
 * Owns: the upgrade as a command: a rehearsal of the installed version, then a controller of it in
 * place of the one that runs, and the way to it for each device.
 * Runs in: the CLI, which is of the installed version.
 * Must not: end the old controller before the new version has shown that it can start server
 * processes, or run beside another upgrade.
 */
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import { callController, callOver, openPeer } from './client.ts';
import { endUnused } from './launch-for-device.ts';
import { lock } from './lock.ts';
import { assemble } from './make-host.ts';
import type { ControllerView, DeviceUpgrade } from './messages.ts';
import { identify, waitForExit } from './process.ts';
import type { Peer } from './rpc.ts';
import {
  controllerSocket,
  prepareRunDir,
  requireRoot,
  upgradeLock,
  upgradeSocket,
} from './run-dir.ts';
import { launchTested } from './upgrade.ts';
import { PACKAGE_VERSION } from './version.ts';

const END_TIMEOUT_MS = 10_000;

export interface Upgrade {
  /** Undefined: none ran before. */
  readonly before: ControllerView | undefined;
  readonly after: ControllerView;
  device(name: string): Promise<DeviceUpgrade>;
  /** To be called at the end, whatever that is. */
  end(): void;
}

/** Rejects with the old controller still there, unless the new one failed to start after all. */
export async function beginUpgrade(): Promise<Upgrade> {
  requireRoot();
  prepareRunDir();
  const end = lock(upgradeLock());
  if (end === undefined) {
    throw new GatewayError('UNBD_DEVICE_BUSY', 'another upgrade is under way', {
      hint: 'wait until it has ended',
    });
  }
  try {
    await rehearse();
    const before = await endController();
    const after = before?.stays === true ? before.view : await startedController();
    const device = (name: string) => callController('upgrade', { device: name });
    return { before: before?.view, after, device, end };
  } catch (error) {
    end();
    throw error;
  }
}

/** The driver is asked, and a server process is started and tried, all from what is installed. */
async function rehearse(): Promise<void> {
  const socketPath = upgradeSocket(process.pid);
  const { host, controller } = assemble({ foreground: true, socketPath, idleExitMs: undefined });
  await controller.listen();
  try {
    await host.control.features();
    endUnused(await launchTested(host, PACKAGE_VERSION));
  } finally {
    controller.close();
  }
}

interface Former {
  readonly view: ControllerView;
  /** It is of this version, and not ours to end. */
  readonly stays: boolean;
}

/** Undefined where none runs. Its devices go on. */
async function endController(): Promise<Former | undefined> {
  const peer = await openPeer(controllerSocket());
  if (peer === undefined) return undefined;
  try {
    const view = await callOver(peer)('ping', null);
    if (view.isForeground !== true) await endProcessOf(peer, view);
    else if (view.version !== PACKAGE_VERSION) throw notOurs(view);
    return { view, stays: view.isForeground === true };
  } finally {
    peer.close();
  }
}

async function endProcessOf(peer: Peer, { pid }: ControllerView): Promise<void> {
  const identity = identify(pid);
  await callOver(peer)('shutdown', { keepDevices: true });
  if (identity === undefined || (await waitForExit(identity, END_TIMEOUT_MS))) return;
  throw new GatewayError('UNBD_CONTROLLER', `the controller, process ${pid}, does not end`, {
    hint: `run: kill -9 ${pid} (devices stay), then the command again`,
  });
}

function notOurs({ pid, version }: ControllerView): GatewayError {
  const text = `the controller, process ${pid} of version ${version}, is \`daemon --foreground\``;
  return new GatewayError('UNBD_CONTROLLER', text, {
    hint: 'restart its service (devices stay), then run the command again',
  });
}

async function startedController(): Promise<ControllerView> {
  const view = await callController('ping', null).catch((thrown) => {
    const { code, message, hint = 'see: ublk-nbd logs' } = asGatewayError(thrown);
    const text = `devices go on, but without a controller: ${message}`;
    throw new GatewayError(code, text, { hint, cause: thrown });
  });
  if (view.version === PACKAGE_VERSION) return view;
  const text = `version ${view.version} started a controller before ${PACKAGE_VERSION} did`;
  throw new GatewayError('UNBD_VERSION', text, { hint: 'run the command again' });
}
