/**
 * Owns: `ublk-nbd disconnect`.
 * Runs in: the CLI.
 * Must not: stop at the first device that refuses; --all tries every one and tells every refusal.
 */
import { defineCommand, usageError } from '../command.ts';
import { forEachDevice } from '../each-device.ts';
import { drainOption, drainTimeoutMs } from '../outage-options.ts';

export const command = defineCommand({
  examples: [
    ['disconnect 0', 'Flush and remove /dev/ublkb0'],
    ['disconnect --all', 'Every device'],
  ],
  build: (yargs) =>
    yargs
      .positional('device', {
        type: 'string',
        describe: 'N, ublkbN, /dev/ublkbN or the name given to connect',
      })
      .options({
        all: { type: 'boolean', describe: 'Disconnect every device' },
        force: {
          type: 'boolean',
          describe: 'Also when it is mounted or open; what was not written is lost',
        },
        ...drainOption,
      }),
  run: async (args, context) => {
    const { gateway } = context;
    const drainMs = drainTimeoutMs(args);
    const how = { force: args.force === true, drainTimeoutMs: drainMs, signal: context.signal() };
    if ((args.all === true) === (args.device !== undefined)) {
      throw usageError('disconnect needs either a device or --all', 'see: ublk-nbd list');
    }
    if (args.device !== undefined) return await gateway.disconnect(args.device, how);
    await forEachDevice(context, (path) => gateway.disconnect(path, how));
  },
});
