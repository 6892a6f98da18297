/**
 * Owns: writing the log of the controller and of server processes: one line an event, to the
 * journal under systemd, else to a bounded file.
 * Runs in: every process but the plain CLI.
 * Must not: write a secret or a stack, throw, or grow without a bound.
 */
import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { oneLine } from '../protocols/errors.ts';
import { logDir } from './run-dir.ts';

export type LogLevel = 'error' | 'warning' | 'info';

/** One file and one predecessor are kept. */
const MAXIMUM_FILE_BYTES = 4 * 1024 * 1024;
const STDOUT = 1;
const STDERR = 2;
/** syslog(3)'s numbers, as the journal reads them in front of a line. */
const PRIORITY = { error: 3, warning: 4, info: 6 } as const;

let descriptor = STDERR;

/** The file that is written to and read; `-` in UBLK_NBD_LOG_FILE is stderr. */
export function logFile(): string {
  const asked = process.env.UBLK_NBD_LOG_FILE;
  return asked === undefined || asked === '' ? join(logDir(), 'ublk-nbd.log') : asked;
}

/** Where a process that we start logs: what we log to ourselves, or the file. */
export function openChildLog(): { readonly stdio: number; close(): void } {
  if (logFile() === '-' || writesToJournal()) return { stdio: descriptor, close: () => undefined };
  const file = openSync(logFile(), 'a', 0o600);
  return { stdio: file, close: () => closeSync(file) };
}

/** For a process whose stderr is kept for what it says in its last moment. */
export function logToStdout(): void {
  descriptor = STDOUT;
}

/** True when what we log to is the journal's socket (systemd.exec(5), JOURNAL_STREAM). */
export function writesToJournal(): boolean {
  const stream = process.env.JOURNAL_STREAM;
  if (stream === undefined) return false;
  try {
    const { dev, ino } = fstatSync(descriptor);
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

/** Writes one line. `device` is the number of /dev/ublkbN, undefined for what concerns none. */
export function log(level: LogLevel, device: number | undefined, message: string): void {
  const subject = device === undefined ? '' : `ublkb${device}: `;
  const text = `${subject}${oneLine(message)}`;
  try {
    if (writesToJournal()) writeSync(descriptor, `<${PRIORITY[level]}>${text}\n`);
    else append(`${new Date().toISOString()} ${level} ${text}\n`);
  } catch {
    // A log that cannot be written must not stop a device.
  }
}

function append(line: string): void {
  if (logFile() === '-') {
    writeSync(descriptor, line);
    return;
  }
  const file = openSync(logFile(), 'a', 0o600);
  try {
    writeSync(file, line);
    if (fstatSync(file).size > MAXIMUM_FILE_BYTES) renameSync(logFile(), `${logFile()}.1`);
  } finally {
    closeSync(file);
  }
}
