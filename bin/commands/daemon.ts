/**
 * Owns: `ublk-nbd daemon`.
 * Runs in: the CLI; with --foreground this process becomes the controller.
 * Must not: know what a controller does.
 */
import { resolve } from 'node:path';
import { defineCommand } from '../command.ts';

export const command = defineCommand({
  examples: [
    ['daemon', 'Start the controller in the background, if it does not run'],
    ['daemon --foreground', 'For a service manager: READY=1, ends on SIGTERM'],
  ],
  build: (yargs) =>
    yargs.options({
      foreground: { type: 'boolean', describe: 'Stay and be the controller' },
      'log-file': {
        type: 'string',
        requiresArg: true,
        describe: 'Where there is no journal, append the log to this file; - is stderr',
      },
    }),
  run: async (args, context) => {
    // The controller's working folder is not the caller's.
    const typed = args['log-file'];
    const logFile = typed === undefined || typed === '-' ? typed : resolve(typed);
    await context.gateway.daemon(
      { foreground: args.foreground === true, ...(logFile === undefined ? {} : { logFile }) },
      context.signal(),
    );
  },
});
