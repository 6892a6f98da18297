/**
 * Owns: `--all`: one thing done to every device, to many at once: one that waits for its backend
 * does not keep the others.
 * Runs in: the CLI.
 * Must not: stop at the first device that refuses; every refusal is told, the last as the error.
 */
import { asGatewayError, type GatewayError } from '../src/protocols/errors.ts';
import type { Context } from './command.ts';

const MAXIMUM_AT_ONCE = 32;

export async function forEachDevice(
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
