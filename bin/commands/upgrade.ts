/**
 * Owns: `ublk-nbd upgrade`.
 * Runs in: the CLI.
 * Must not: stop at the first device that cannot be upgraded; --all tries every one.
 */
import { GatewayError } from '../../src/protocols/errors.ts';
import { defineCommand, usageError } from '../command.ts';
import { forEachDevice } from '../each-device.ts';

export const command = defineCommand({
  examples: [
    ['upgrade 0', 'The controller, and the server process of /dev/ublkb0'],
    ['upgrade --all', 'The controller and every server process'],
  ],
  build: (yargs) =>
    yargs
      .positional('device', {
        type: 'string',
        describe: 'N, ublkbN, /dev/ublkbN or the name given to connect',
      })
      .option('all', { type: 'boolean', describe: 'Upgrade every device' }),
  run: async (args, context) => {
    if ((args.all === true) === (args.device !== undefined)) {
      throw usageError('upgrade needs either a device or --all', 'see: ublk-nbd list');
    }
    // A signal must not leave the host without a controller: it ends what follows.
    const signal = context.signal();
    const upgrade = await context.gateway.beginUpgrade();
    try {
      const { before, after: now } = upgrade;
      const was = before === undefined ? '' : `process ${before.pid} (${before.version}) -> `;
      context.print(`controller: ${was}process ${now.pid} (${now.version})`);
      const one = async (device: string): Promise<void> => {
        if (signal.aborted) return;
        const { after, text } = await upgrade.device(device);
        context.print(`${after.path}: ${text}`);
      };
      if (args.device !== undefined) await one(args.device);
      else await forEachDevice(context, one);
      if (signal.aborted) throw interrupted();
    } finally {
      upgrade.end();
    }
  },
});

function interrupted(): GatewayError {
  return new GatewayError('UNBD_INTERRUPTED', 'interrupted', {
    hint: 'what was begun is done; run it again for the rest',
  });
}
