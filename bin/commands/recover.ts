/**
 * Owns: `ublk-nbd recover`.
 * Runs in: the CLI.
 * Must not: stop at the first device that cannot be recovered; --all tries every one.
 */
import { defineCommand, usageError } from '../command.ts';
import { forEachDevice } from '../each-device.ts';

export const command = defineCommand({
  examples: [
    ['recover 0', 'Wait until /dev/ublkb0 is served again'],
    ['recover --all', 'Every device'],
  ],
  build: (yargs) =>
    yargs
      .positional('device', {
        type: 'string',
        describe: 'N, ublkbN, /dev/ublkbN or the name given to connect',
      })
      .option('all', { type: 'boolean', describe: 'Recover every device' }),
  run: async (args, context) => {
    if ((args.all === true) === (args.device !== undefined)) {
      throw usageError('recover needs either a device or --all', 'see: ublk-nbd list');
    }
    if (args.device !== undefined) return await context.gateway.recover(args.device);
    await forEachDevice(context, (path) => context.gateway.recover(path));
  },
});
