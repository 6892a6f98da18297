#!/usr/bin/env node
/**
 * Owns: this process: its streams, signals and exit status.
 * Runs in: the CLI; with --foreground of `daemon` and `connect` for as long as they serve.
 * Must not: parse arguments or talk to the gateway; cli.ts does.
 */
import { PACKAGE_VERSION } from '../src/gateway/version.ts';
import { asGatewayError, EXIT_STATUS, GatewayError } from '../src/protocols/errors.ts';
import { report, runCli } from './cli.ts';
import type { Context } from './command.ts';
import { gateway } from './gateway.ts';
import { progressLine } from './progress.ts';

const debug = !['', '0', undefined].includes(process.env.UBLK_NBD_DEBUG);
let outputError: NodeJS.ErrnoException | undefined;
let interruption: AbortController | undefined;

/** The first signal asks the command to undo what it began; the second does not wait for that. */
function onSignal(): void {
  if (interruption?.signal.aborted === false) {
    interruption.abort();
    return;
  }
  context.warn('ended before the undo was confirmed; see: ublk-nbd list [UNBD_INTERRUPTED]');
  process.exit(EXIT_STATUS.UNBD_INTERRUPTED);
}

const context: Context = {
  gateway,
  print: (text) => {
    process.stdout.write(`${text}\n`);
  },
  warn: (text) => {
    process.stderr.write(`ublk-nbd: ${text}\n`);
  },
  progress: (text) => {
    if (!process.stderr.isTTY) return;
    process.stderr.write(progressLine(text, process.stderr.columns ?? 80));
  },
  signal: () => {
    if (interruption === undefined) {
      interruption = new AbortController();
      for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, onSignal);
    }
    return interruption.signal;
  },
};

// A reader that has seen enough (`| head`) is no error, and a terminal that went away hears none.
process.stderr.on('error', () => {});
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') outputError ??= error;
});
process.on('uncaughtException', (error) => {
  process.exit(report(asGatewayError(error), context, debug || process.argv.includes('--debug')));
});

let status = await runCli(process.argv.slice(2), context, {
  version: PACKAGE_VERSION,
  columns: process.stdout.columns ?? 80,
  debug,
});
// Writes to stdout report their failure a turn later.
await new Promise((resolve) => process.stdout.write('', resolve));
if (outputError !== undefined && status === 0) {
  const error = new GatewayError('UNBD_INTERNAL', `cannot write to stdout: ${outputError.message}`);
  status = report(error, context, debug);
}
process.exit(status);
