/**
 * Owns: `ublk-nbd disconnect`.
 * Runs in: the CLI.
 * Must not: stop at the first device that refuses; --all tries every one and tells every refusal.
 */
import { defineCommand } from '../command.ts';
import { deviceOrAll, forDeviceOrAll, requireDeviceOrAll } from '../each-device.ts';
import { drainOption, drainTimeoutMs } from '../outage-options.ts';

export const command = defineCommand({
  examples: [
    ['disconnect 0', 'Flush and remove /dev/ublkb0'],
    ['disconnect --all', 'Every device'],
  ],
  build: (yargs) =>
    deviceOrAll(yargs, 'Disconnect').options({
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
    requireDeviceOrAll('disconnect', args);
    await forDeviceOrAll(args, context, (device) => gateway.disconnect(device, how));
  },
});
