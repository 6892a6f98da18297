/**
 * Owns: what becomes of a device whose export has grown.
 * Runs in: the controller and `connect --foreground`.
 * Must not: make a device larger that was not connected so, or any device smaller.
 */
import { asGatewayError } from '../protocols/errors.ts';
import type { Device } from './device.ts';
import type { Host } from './host.ts';
import type { BackendEvent } from './server-messages.ts';

/** May be told again, by a server process that finds a new controller. */
export async function followGrowth(
  host: Host,
  device: Device,
  { sizeBytes, follow }: NonNullable<BackendEvent['grown']>,
): Promise<void> {
  const { id } = device;
  try {
    await device.exclusive(async () => {
      const { shape } = device.record;
      if (shape === undefined || sizeBytes <= shape.sizeBytes) return;
      const change = `from ${shape.sizeBytes} to ${sizeBytes} bytes`;
      if (!follow) {
        host.tell('grown', id, `the export grew ${change}; the device keeps its size`);
        return;
      }
      await host.control.updateSize(id, sizeBytes);
      device.update({ shape: { ...shape, sizeBytes } });
      host.tell('resized', id, `it grew with its export ${change}`);
    });
  } catch (error) {
    host.log('error', id, `cannot grow: ${asGatewayError(error).line}`);
  }
}
