/**
 * Owns: `ublk-nbd logs`.
 * Runs in: the CLI.
 * Must not: know where the log is kept.
 */
import { defineCommand } from '../command.ts';

export const command = defineCommand({
  examples: [
    ['logs', 'Of the controller and of every device'],
    ['logs 0', 'What concerns /dev/ublkb0'],
  ],
  build: (yargs) =>
    yargs.positional('device', {
      type: 'string',
      describe: 'N, ublkbN, /dev/ublkbN or the name given to connect',
    }),
  run: async (args, { gateway, print }) => {
    for await (const line of gateway.logs(args.device)) print(line);
  },
});
