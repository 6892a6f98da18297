/**
 * Owns: `DEV | --all`: the words of it, and one thing done to one device or to all, to many at
 * once: one that waits for its backend does not keep the others.
 * Runs in: the CLI.
 * Must not: stop at the first device that refuses; every refusal is told, the last as the error.
 */
import type { Argv } from 'yargs';
import { asGatewayError, type GatewayError } from '../src/protocols/errors.ts';
import { type Context, usageError } from './command.ts';

const MAXIMUM_AT_ONCE = 32;

interface DeviceOrAll {
  readonly device: string | undefined;
  readonly all: boolean | undefined;
}

/** `verb` as the help begins: `Recover` every device. */
export function deviceOrAll(yargs: Argv, verb: string) {
  return yargs
    .positional('device', {
      type: 'string',
      describe: 'N, ublkbN, /dev/ublkbN or the name given to connect',
    })
    .option('all', { type: 'boolean', describe: `${verb} every device` });
}

/** Throws UNBD_USAGE unless one of them was given, and not both. */
export function requireDeviceOrAll(command: string, { device, all }: DeviceOrAll): void {
  if ((all === true) !== (device !== undefined)) return;
  throw usageError(`${command} needs either a device or --all`, 'see: ublk-nbd list');
}

export async function forDeviceOrAll(
  { device }: DeviceOrAll,
  context: Context,
  act: (device: string) => Promise<void>,
): Promise<void> {
  if (device === undefined) await forEachDevice(context, act);
  else await act(device);
}

async function forEachDevice(
  { gateway, warn }: Context,
  act: (path: string) => Promise<void>,
): Promise<void> {
  const devices = await gateway.list(false);
  const outcomes: (GatewayError | undefined)[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < devices.length; index = next++) {
      outcomes[index] = await act(devices[index]?.path ?? '').then(() => undefined, asGatewayError);
    }
  };
  await Promise.all(Array.from({ length: MAXIMUM_AT_ONCE }, worker));
  // Removed by somebody else since it was listed: nothing is left to do.
  const failures = outcomes.filter((error) => error && error.code !== 'UNBD_DEVICE_ABSENT');
  const last = failures.pop();
  for (const failure of failures) warn(failure?.line ?? '');
  if (last !== undefined) throw last;
}
