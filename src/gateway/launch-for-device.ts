/**
 * Owns: the first minute of a server process: launched, watched, and heard of by its hello; and
 * which one a device gets.
 * Runs in: the controller and `connect --foreground`.
 * Must not: leave a server process behind that did not say hello in time.
 */
import { randomUUID } from 'node:crypto';
import { unlessAborted } from '../protocols/unless-aborted.ts';
import type { Device } from './device.ts';
import { endProcess } from './end-process.ts';
import type { Host } from './host.ts';
import type { ServerProcess } from './launch.ts';
import { deviceLost, serverEnded } from './lost.ts';
import type { Peer } from './rpc.ts';
import type { ServerHello } from './server-messages.ts';

/** Node starts slowly under an emulated processor. */
const LAUNCH_TIMEOUT_MS = 30_000;

/** One that has said hello and serves nothing yet. */
export interface ReadyProcess {
  readonly token: string;
  readonly serverProcess: ServerProcess;
  readonly peer: Peer;
}

/** Starts a server process and waits for its hello; ends it when that does not come. */
export async function launchReady(
  host: Host,
  isSpare: boolean,
  signal?: AbortSignal,
): Promise<ReadyProcess> {
  const token = randomUUID();
  const serverProcess = host.launch({ token, socketPath: host.socketPath, isSpare });
  const arrival = host.arrivals.expect(token);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = serverEnded('did not say hello in time');
    timer = setTimeout(() => reject(error), LAUNCH_TIMEOUT_MS);
  });
  const early = serverProcess.ended.then(({ how }) => {
    throw serverEnded(how);
  });
  try {
    const first = Promise.race([arrival, late, early]);
    const peer = await (signal === undefined ? first : unlessAborted(first, signal));
    return { token, serverProcess, peer };
  } catch (error) {
    await endProcess(host, undefined, serverProcess, undefined);
    throw error;
  } finally {
    clearTimeout(timer);
    host.arrivals.forget(token);
  }
}

/** What is given, or the spare where one is ready, else a new one; the device's from here on. */
export async function serverProcessForDevice(
  host: Host,
  device: Device,
  signal: AbortSignal,
  prepared?: ReadyProcess,
): Promise<Peer> {
  const ready = prepared ?? (await host.spares.take()) ?? (await launchReady(host, false, signal));
  const { token, serverProcess, peer } = ready;
  device.attachServerProcess(serverProcess, (ending) => {
    void deviceLost(host, device, serverProcess, ending);
  });
  device.attachPeer(peer);
  const serverVersion = versionOf(ready);
  device.update({ token, serverProcess: serverProcess.identity, serverVersion });
  return peer;
}

export function versionOf({ peer }: ReadyProcess): string | undefined {
  const { version } = (peer.remote.details ?? {}) as Partial<ServerHello>;
  return version;
}

/** It serves nothing, so that nothing is lost by a kill. */
export function endUnused({ peer, serverProcess }: ReadyProcess): void {
  peer.close();
  serverProcess.kill();
}
