/**
 * Owns: the first minute of a server process: launched, watched, and heard of by its hello.
 * Runs in: the controller and `connect --foreground`.
 * Must not: leave a server process behind that did not say hello in time.
 */
import type { Device } from './device.ts';
import { endServerProcess } from './disconnect.ts';
import type { Host } from './host.ts';
import { deviceLost, serverEnded } from './lost.ts';
import type { Peer } from './rpc.ts';
import { unlessAborted } from './undo.ts';

/** Node starts slowly under an emulated processor. */
const LAUNCH_TIMEOUT_MS = 30_000;

/** Starts a server process and waits for its hello; ends it when that does not come. */
export async function launchForDevice(
  host: Host,
  device: Device,
  signal: AbortSignal,
): Promise<Peer> {
  const { token } = device.record;
  const serverProcess = host.launch({ token, socketPath: host.socketPath });
  const arrival = host.arrivals.expect(token);
  device.attachServerProcess(serverProcess, (how) => void deviceLost(host, device, how));
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = serverEnded('did not say hello in time');
    timer = setTimeout(() => reject(error), LAUNCH_TIMEOUT_MS);
  });
  const early = serverProcess.ended.then((how) => {
    throw serverEnded(how);
  });
  try {
    const peer = await unlessAborted(Promise.race([arrival, late, early]), signal);
    device.attachPeer(peer);
    device.update({ serverProcess: serverProcess.identity });
    return peer;
  } catch (error) {
    await endServerProcess(host, device);
    throw error;
  } finally {
    clearTimeout(timer);
    host.arrivals.forget(token);
  }
}
