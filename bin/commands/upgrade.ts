/**
 * Owns: `ublk-nbd upgrade`.
 * Runs in: the CLI.
 * Must not: stop at the first device that cannot be upgraded; --all tries every one.
 */
import { GatewayError } from '../../src/protocols/errors.ts';
import { defineCommand } from '../command.ts';
import { deviceOrAll, forDeviceOrAll, requireDeviceOrAll } from '../each-device.ts';

export const command = defineCommand({
  examples: [
    ['upgrade 0', 'The controller, and the server process of /dev/ublkb0'],
    ['upgrade --all', 'The controller and every server process'],
  ],
  build: (yargs) => deviceOrAll(yargs, 'Upgrade'),
  run: async (args, context) => {
    requireDeviceOrAll('upgrade', args);
    // A signal must not leave the host without a controller: it ends what follows.
    const signal = context.signal();
    const upgrade = await context.gateway.beginUpgrade();
    try {
      const { before, after: now } = upgrade;
      const was = before === undefined ? '' : `process ${before.pid} (${before.version}) -> `;
      context.print(`controller: ${was}process ${now.pid} (${now.version})`);
      await forDeviceOrAll(args, context, async (device) => {
        if (signal.aborted) return;
        const { after, text } = await upgrade.device(device);
        context.print(`${after.path}: ${text}`);
      });
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
