/**
 * Owns: `ublk-nbd connect`.
 * Runs in: the CLI; with --foreground it stays as the controller's part for this one device.
 * Must not: print anything but the device's path, or its JSON, on stdout.
 */
import type { DeviceView } from '../../src/gateway/messages.ts';
import { type Context, defineCommand, jsonOption } from '../command.ts';
import { basicOptions, connectOptions } from '../connect-options.ts';
import { deviceJson } from '../device-json.ts';
import { drainOption, drainTimeoutMs } from '../outage-options.ts';
import { json } from '../output.ts';

export const command = defineCommand({
  examples: [
    ['connect backup.example', 'The default export, port 10809'],
    ['connect nbd://[::1]:10810/disk', 'By NBD URI'],
    ['connect nbd+unix:///disk?socket=/run/nbd.sock', 'Over a unix socket'],
    ['connect https://images.example/disk.img', 'A raw image on a web server, read-only'],
  ],
  build: (yargs) =>
    basicOptions(
      yargs.positional('target', {
        type: 'string',
        demandOption: true,
        describe:
          'host[:port][/export], an NBD URI, http(s)://…, file:PATH, null:SIZE or memory:SIZE',
      }),
    )
      .option('foreground', {
        type: 'boolean',
        describe: 'Stay until SIGTERM or Ctrl-C, then disconnect',
      })
      .options(drainOption)
      .options(jsonOption),
  run: async (args, context) => {
    const options = await connectOptions(args, context);
    const show = (device: DeviceView) => printDevice(device, args.json === true, context);
    if (args.foreground === true) {
      const drainMs = drainTimeoutMs(args);
      await context.gateway.connectForeground(options, context.signal(), show, drainMs);
    } else {
      show(await context.gateway.connect(options, context.signal()));
    }
  },
});

function printDevice(device: DeviceView, asJson: boolean, context: Context): void {
  context.print(asJson ? json(deviceJson(device)) : device.path);
}
