/**
 * Owns: `ublk-nbd list`.
 * Runs in: the CLI.
 * Must not: print a header over nothing: without devices there is no output, as with lsblk(8).
 */
import type { DeviceView } from '../../src/gateway/messages.ts';
import { defineCommand, jsonOption } from '../command.ts';
import { deviceJson } from '../device-json.ts';
import { fields, humanSize, json, table } from '../output.ts';

export const command = defineCommand({
  examples: [
    ['list', 'One line a device; nothing when there is none'],
    ['list --json', 'For machines; an empty list is []'],
  ],
  build: (yargs) =>
    yargs
      .option('verbose', {
        alias: 'v',
        type: 'boolean',
        describe: 'Show everything that is known of each device',
      })
      .options(jsonOption),
  run: async (args, { gateway, print }) => {
    const devices = await gateway.list(args.verbose === true);
    if (args.json) return print(json(devices.map(deviceJson)));
    if (devices.length === 0) return;
    if (args.verbose) print(devices.map(paragraph).join('\n\n'));
    else print(overview(devices));
  },
});

function overview(devices: readonly DeviceView[]): string {
  const rows = devices.map((device) => [
    device.path,
    humanSize(device.sizeBytes),
    device.readOnly ? 'ro' : 'rw',
    device.state + (device.reason === undefined ? '' : ` (${device.reason})`),
    device.name ?? '-',
    device.target,
  ]);
  return table(['DEVICE', 'SIZE', 'MODE', 'STATE', 'NAME', 'TARGET'], rows);
}

function paragraph(device: DeviceView): string {
  const pairs: [string, string][] = [
    ['target', device.target],
    ['name', device.name ?? '-'],
    ['state', device.state],
    ...(device.reason === undefined ? [] : [['reason', device.reason] as [string, string]]),
    ['size', `${device.sizeBytes} bytes (${humanSize(device.sizeBytes)})`],
    ['mode', device.readOnly ? 'read-only' : 'read-write'],
    ['block size', `${device.logicalBlockBytes} bytes`],
    ['queues', `${device.queues}, ${device.depth} requests each`],
    ['server process', `pid ${device.serverPid}, version ${device.serverVersion ?? 'unknown'}`],
    ['connected at', new Date(device.connectedAtMs).toISOString()],
  ];
  if (device.details !== undefined) {
    const { dataPath, maxIoBytes, counters } = device.details;
    pairs.push(['data path', dataPath], ['largest I/O', `${maxIoBytes} bytes`]);
    for (const [name, value] of Object.entries(counters)) {
      // The one that has an end.
      const of = name === 'prefetchedBytes' ? ` of ${device.sizeBytes}` : '';
      pairs.push([name, `${value}${of}`]);
    }
  }
  return `${device.path}\n${fields(pairs, '  ')}`;
}
