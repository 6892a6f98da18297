/**
 * Owns: `ublk-nbd events`.
 * Runs in: the CLI, until a signal.
 * Must not: keep events; each is printed when it comes.
 */
import type { DeviceEvent } from '../../src/gateway/messages.ts';
import { defineCommand, jsonOption } from '../command.ts';
import { json } from '../output.ts';

export const command = defineCommand({
  examples: [
    ['events', 'What happens to the devices from here on, until Ctrl-C'],
    ['events --json', 'For machines; one object a line'],
  ],
  build: (yargs) => yargs.options(jsonOption),
  run: async (args, { gateway, print, signal }) => {
    const show = args.json === true ? asJson : asText;
    await gateway.events(signal(), (event) => print(show(event)));
  },
});

function asText({ atMs, device, kind, text, missed }: DeviceEvent): string {
  const gap = missed === undefined ? '' : ` (${missed} events before it were missed)`;
  return `${new Date(atMs).toISOString()} /dev/ublkb${device} ${kind}: ${text}${gap}`;
}

function asJson({ atMs, device, kind, text, missed }: DeviceEvent): string {
  return json({ atMs, id: device, kind, text, missed: missed ?? 0 });
}
