/**
 * Owns: `ublk-nbd mount`.
 * Runs in: the CLI.
 * Must not: leave a device behind when the mount fails; the gateway undoes the connect.
 */
import { defineCommand, integerOption, jsonOption } from '../command.ts';
import { basicOptions, connectOptions } from '../connect-options.ts';
import { deviceJson } from '../device-json.ts';
import { json } from '../output.ts';
import { withProgress } from '../progress.ts';

export const command = defineCommand({
  examples: [
    ['mount backup.example /mnt', 'Connect, then mount the filesystem'],
    ['mount nbd://backup.example/disk /mnt --partition 1 -o ro', 'Its first partition, read-only'],
  ],
  build: (yargs) =>
    basicOptions(
      yargs
        .positional('target', { type: 'string', demandOption: true, describe: 'As for connect' })
        .positional('directory', {
          type: 'string',
          demandOption: true,
          describe: 'Where to mount it',
        }),
    )
      .options({
        partition: integerOption('partition', 'Partition to mount', 1, 255),
        options: {
          alias: 'o',
          type: 'string',
          requiresArg: true,
          describe: 'Options for mount(8)',
        },
      })
      .options(jsonOption),
  run: async (args, context) => {
    const { directory, partition, options: mountOptions } = args;
    const request = {
      options: await connectOptions(args, context),
      directory,
      ...(partition === undefined ? {} : { partition }),
      ...(mountOptions === undefined ? {} : { mountOptions }),
    };
    const device = await withProgress(request.options, context, (tell) =>
      context.gateway.mount(request, context.signal(), tell),
    );
    context.print(args.json ? json(deviceJson(device)) : device.path);
  },
});
