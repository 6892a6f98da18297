/**
 * Owns: reading the log back: the file, and the journal where systemd runs.
 * Runs in: the CLI.
 * Must not: hold more than a line in memory.
 */
import { spawn } from 'node:child_process';
import { createReadStream, existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { GatewayError } from '../protocols/errors.ts';
import { parseDevice } from './device-name.ts';
import { runsSystemd } from './environment.ts';
import { logFile } from './log.ts';
import { Registry } from './registry.ts';
import { devicesDir, prepareRunDir, requireRoot } from './run-dir.ts';

/**
 * The log's lines, oldest first; with `device` (N, ublkbN, /dev/ublkbN or a name) what concerns it.
 * Root only.
 */
export async function* readLog(device: string | undefined): AsyncGenerator<string> {
  requireRoot();
  prepareRunDir();
  const pattern = device === undefined ? /^/ : new RegExp(`(^|\\s)ublkb${deviceId(device)}: `);
  for (const path of [`${logFile()}.1`, logFile()]) {
    if (!existsSync(path)) continue;
    for await (const line of createInterface({ input: createReadStream(path) })) {
      if (pattern.test(line)) yield line;
    }
  }
  if (!runsSystemd()) return;
  const argv = ['--identifier=ublk-nbd', '--no-pager', '--quiet', '--output=short-iso'];
  const child = spawn('journalctl', argv, { stdio: ['ignore', 'pipe', 'ignore'] });
  child.once('error', () => undefined);
  for await (const line of createInterface({ input: child.stdout })) {
    if (pattern.test(line)) yield line;
  }
}

/** A number may be of a device that is gone; a name needs one that is there. */
function deviceId(text: string): number {
  const reference = parseDevice(text);
  if ('id' in reference) return reference.id;
  const { records } = new Registry(devicesDir()).readAll();
  const record = records.find(({ options }) => options.name === reference.name);
  if (record !== undefined) return record.id;
  throw new GatewayError('UNBD_DEVICE_ABSENT', `there is no device ${text} of ublk-nbd`, {
    hint: 'give its number, or see: ublk-nbd list',
  });
}
