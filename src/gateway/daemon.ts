/**
 * Owns: the controller as a process: `ublk-nbd daemon`, and what the first `connect` starts.
 * Runs in: the controller; without `foreground`, the CLI that starts one.
 * Must not: end its devices with itself.
 */
import { GatewayError } from '../protocols/errors.ts';
import { withController } from './client.ts';
import { IDLE_EXIT_MS } from './controller.ts';
import { lock } from './lock.ts';
import { log } from './log.ts';
import { assemble } from './make-host.ts';
import { controllerLock, controllerSocket, prepareRunDir, requireRoot } from './run-dir.ts';
import { sweepRunDir, tellLastWordsOfSpares } from './sweep-run-dir.ts';

export interface DaemonOptions {
  /** Be the controller until `signal`; false = make sure that one runs, and return. */
  readonly foreground: boolean;
  /** Absolute, or `-` for stderr. */
  readonly logFile?: string;
}

export async function runDaemon(options: DaemonOptions, signal: AbortSignal): Promise<void> {
  if (options.logFile !== undefined) process.env.UBLK_NBD_LOG_FILE = options.logFile;
  if (!options.foreground) {
    await withController((call) => call('ping', null), signal);
    return;
  }
  const began = await runController(undefined, signal);
  if (!began) {
    throw new GatewayError('UNBD_CONTROLLER', 'a controller runs already', {
      hint: 'use it, or end it first: its devices stay',
    });
  }
}

/** The controller that the CLI starts: it ends when there was nothing to do for a while. */
export async function runOnDemand(signal: AbortSignal): Promise<void> {
  // A test of the idle exit cannot wait as long as people may.
  const asked = Number(process.env.UBLK_NBD_IDLE_EXIT_MS);
  await runController(asked > 0 ? asked : IDLE_EXIT_MS, signal);
}

/** False when another controller runs. Returns when this one has ended; devices stay. */
async function runController(
  idleExitMs: number | undefined,
  signal: AbortSignal,
): Promise<boolean> {
  requireRoot();
  process.umask(0o077);
  prepareRunDir();
  if (lock(controllerLock()) === undefined) return false;
  sweepRunDir();
  const socketPath = controllerSocket();
  const { controller, operations } = assemble({ foreground: false, socketPath, idleExitMs });
  await controller.listen();
  log('info', undefined, `process ${process.pid} is the controller`);
  const onAbort = (): void => controller.close();
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  await operations.refresh();
  await controller.ended;
  sweepRunDir();
  tellLastWordsOfSpares();
  log('info', undefined, `process ${process.pid} ends`);
  return true;
}
