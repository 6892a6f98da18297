/**
 * Owns: `--all`: one thing done to every device, one after another.
 * Runs in: the CLI.
 * Must not: stop at the first device that refuses; every refusal is told, the last as the error.
 */
import { asGatewayError, type GatewayError } from '../src/protocols/errors.ts';
import type { Context } from './command.ts';

export async function forEachDevice(
  { gateway, warn }: Context,
  act: (path: string) => Promise<void>,
): Promise<void> {
  const failures: GatewayError[] = [];
  for (const { path } of await gateway.list(false)) {
    try {
      await act(path);
    } catch (error) {
      const failure = asGatewayError(error);
      // Removed by somebody else since it was listed: nothing is left to do.
      if (failure.code !== 'UNBD_DEVICE_ABSENT') failures.push(failure);
    }
  }
  const last = failures.pop();
  for (const failure of failures) warn(failure.line);
  if (last !== undefined) throw last;
}
