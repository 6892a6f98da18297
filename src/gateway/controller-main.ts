/**
 * Owns: the process of a controller that was started on demand.
 * Runs in: the controller, on the JS main thread.
 * Must not: live on after an exception: devices do not need it, the next command starts another.
 */
import { asGatewayError } from '../protocols/errors.ts';
import { runOnDemand } from './daemon.ts';
import { log } from './log.ts';

function abort(thrown: unknown): void {
  log('error', undefined, `the controller ends: ${asGatewayError(thrown).line}`);
  process.exit(1);
}

process.on('uncaughtException', abort);
process.on('unhandledRejection', abort);
process.title = 'ublk-nbd: controller';

const ending = new AbortController();
for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  process.on(name, () => ending.abort());
}
await runOnDemand(ending.signal);
process.exit(0);
