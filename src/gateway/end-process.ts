/**
 * Owns: the end of a server process that is told to end.
 * Runs in: the controller and `connect --foreground`.
 * Must not: wait without a bound for a process that the kernel does not let go.
 */
import type { Device } from './device.ts';
import type { Host } from './host.ts';
import type { ServerProcess } from './launch.ts';
import type { Peer } from './rpc.ts';

const SHUTDOWN_TIMEOUT_MS = 2_000;
const KILL_TIMEOUT_MS = 5_000;

/** Ends the server process of a device; nothing to do where it has ended. */
export async function endServerProcess(host: Host, device: Device): Promise<void> {
  if (device.serverProcess === undefined) return;
  await endProcess(host, device.id, device.serverProcess, device.peer);
}

/** Asks over `peer`, then kills. */
export async function endProcess(
  host: Host,
  id: number | undefined,
  serverProcess: ServerProcess,
  peer: Peer | undefined,
): Promise<void> {
  if (await serverProcess.waitForExit(0)) return;
  if (peer !== undefined) {
    await peer.request('shutdown', null, { timeoutMs: SHUTDOWN_TIMEOUT_MS }).catch(() => undefined);
    if (await serverProcess.waitForExit(SHUTDOWN_TIMEOUT_MS)) return;
  }
  serverProcess.kill();
  if (await serverProcess.waitForExit(KILL_TIMEOUT_MS)) return;
  const { pid } = serverProcess.identity;
  host.log('error', id, `server process ${pid} does not end; the kernel holds it`);
}
