/**
 * Owns: `connect --foreground`: one device whose owner is the caller's process (containers, systemd
 * templates).
 * Runs in: the CLI, for as long as the device is connected.
 * Must not: leave the device behind when it is told to end.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import type { Host } from './host.ts';
import { log } from './log.ts';
import { assemble } from './make-host.ts';
import type { ConnectOptions, DeviceView } from './messages.ts';
import { loadAddon } from './native.ts';
import type { Operations } from './operations.ts';
import { foregroundSocket, prepareRunDir, requireRoot } from './run-dir.ts';

const WATCH_MS = 200;
const BUSY_RETRY_MS = 500;

/**
 * Connects, tells `onReady` and systemd, and returns when the device is disconnected: after
 * `signal`, or by `ublk-nbd disconnect` from elsewhere. Throws when the device ended by itself.
 */
export async function runForeground(
  options: ConnectOptions,
  signal: AbortSignal,
  onReady: (device: DeviceView) => void,
  drainTimeoutMs?: number,
  onProgress?: (text: string) => void,
): Promise<void> {
  requireRoot();
  process.umask(0o077);
  prepareRunDir();
  process.env.UBLK_NBD_LOG_FILE ??= '-';
  const socketPath = foregroundSocket(process.pid);
  const parts = assemble({ foreground: true, socketPath, idleExitMs: undefined });
  const { host, operations, controller } = parts;
  const { notifySystemd } = loadAddon();
  await controller.listen();
  try {
    const progress = (text: string): void => {
      notifySystemd(`STATUS=${text}`);
      onProgress?.(text);
    };
    const view = await operations.connect(options, { signal, progress });
    // Who waits for READY=1 finds the path already printed.
    onReady(view);
    notifySystemd(`READY=1\nSTATUS=${view.path} is ${view.target}`);
    await untilGone(host, view.id, signal);
    if (signal.aborted && host.devices.has(view.id)) {
      notifySystemd('STOPPING=1');
      await disconnectWhenFree(operations, view.id, drainTimeoutMs);
    }
  } finally {
    controller.close();
  }
}

/**
 * Returns on `signal` and when somebody disconnected it; throws when it died, with nothing left
 * behind.
 */
async function untilGone(host: Host, id: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const device = host.devices.get(id);
    if (device === undefined) return;
    if (device.state === 'DEAD') {
      const reason = device.record.reason ?? 'it ended';
      host.registry.remove(id);
      throw new GatewayError('UNBD_SERVER_PROCESS', `ublkb${id} is dead: ${reason}`, {
        hint: 'connect again',
      });
    }
    await delay(WATCH_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** A service manager may be unmounting at this moment; who must not wait sends a second signal. */
async function disconnectWhenFree(
  operations: Operations,
  id: number,
  drainTimeoutMs: number | undefined,
): Promise<void> {
  let told = '';
  for (;;) {
    try {
      await operations.disconnect({ device: String(id), force: false, drainTimeoutMs });
      return;
    } catch (thrown) {
      const error = asGatewayError(thrown);
      if (error.code === 'UNBD_DEVICE_ABSENT') return;
      if (error.code !== 'UNBD_DEVICE_BUSY') throw error;
      if (error.message !== told) log('warning', id, `waits to disconnect: ${error.message}`);
      told = error.message;
      await delay(BUSY_RETRY_MS);
    }
  }
}
