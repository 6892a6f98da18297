/**
 * Owns: `ublk-nbd umount`.
 * Runs in: the CLI.
 * Must not: disconnect a device whose filesystem could not be unmounted.
 */
import { defineCommand } from '../command.ts';
import { drainOption, drainTimeoutMs } from '../outage-options.ts';

export const command = defineCommand({
  examples: [['umount /mnt', 'Unmount, then disconnect the device']],
  build: (yargs) =>
    yargs
      .positional('directory', {
        type: 'string',
        demandOption: true,
        describe: 'Where it is mounted',
      })
      .options(drainOption),
  run: async (args, { gateway, signal }) => {
    await gateway.umount(args.directory, drainTimeoutMs(args), signal());
  },
});
