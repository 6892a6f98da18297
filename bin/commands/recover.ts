/**
 * Owns: `ublk-nbd recover`.
 * Runs in: the CLI.
 * Must not: stop at the first device that cannot be recovered; --all tries every one.
 */
import { defineCommand } from '../command.ts';
import { deviceOrAll, forDeviceOrAll, requireDeviceOrAll } from '../each-device.ts';

export const command = defineCommand({
  examples: [
    ['recover 0', 'Wait until /dev/ublkb0 is served again'],
    ['recover --all', 'Every device'],
  ],
  build: (yargs) => deviceOrAll(yargs, 'Recover'),
  run: async (args, context) => {
    requireDeviceOrAll('recover', args);
    await forDeviceOrAll(args, context, (device) => context.gateway.recover(device));
  },
});
