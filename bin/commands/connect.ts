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
import { withProgress } from '../progress.ts';

export const command = defineCommand({
  examples: [
    ['connect backup.example', 'The default export, port 10809'],
    ['connect nbd://[::1]:10810/disk', 'By NBD URI'],
    ['connect nbd+unix:///disk?socket=/run/nbd.sock', 'Over a unix socket'],
    ['connect https://images.example/disk.img', 'A raw image on a web server, read-only'],
    ['connect s3://images/disk.img --s3-profile backup', 'A raw image in S3, read-only'],
  ],
  build: (yargs) =>
    basicOptions(
      yargs.positional('target', {
        type: 'string',
        demandOption: true,
        describe:
          'host[:port][/export], an NBD URI, http(s)://…, s3://BUCKET/KEY, file:PATH, null:SIZE ' +
          'or memory:SIZE',
      }),
    )
      .option('foreground', {
        type: 'boolean',
        describe: 'Stay until SIGTERM or Ctrl-C, then disconnect',
      })
      .options(drainOption)
      .options(jsonOption),
  run: async (args, context) => {
    // A device that lives without this process has nothing of its environment.
    const env = args.foreground === true ? process.env : {};
    const options = await connectOptions(args, context, env);
    const show = (device: DeviceView) => {
      context.progress?.(undefined);
      printDevice(device, args.json === true, context);
    };
    if (args.foreground === true) {
      const drainMs = drainTimeoutMs(args);
      await withProgress(options, context, (tell) =>
        context.gateway.connectForeground(options, context.signal(), show, drainMs, tell),
      );
    } else {
      const device = await withProgress(options, context, (tell) =>
        context.gateway.connect(options, context.signal(), tell),
      );
      show(device);
    }
  },
});

function printDevice(device: DeviceView, asJson: boolean, context: Context): void {
  context.print(asJson ? json(deviceJson(device)) : device.path);
}
