/**
 * Claim: with --resend-writes no a write that was in flight when the backend or the server process
 * was lost ends with EIO, and the backend never sees it a second time; later I/O works.
 * Method: nbdkit with its log and a delay, killed with a write in flight, and left to see what the
 * successor of a killed server process sends.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { type Backend, freePort, ONE_THREAD, startNbdkit } from '../support/backends.ts';
import { claim, claimToo } from '../support/claim.ts';
import {
  killBackend,
  PATIENTLY,
  serverPid,
  untilServedByAnother,
  untilState,
} from '../support/kills.ts';
import { describe, must, type Running, start, until } from '../support/process.ts';
import { connect, type Device } from '../support/product.ts';
import type { Scope } from '../support/scope.ts';
import { inFlight } from '../support/under-load.ts';

/** A write of 4 KiB at block `block`, as a process of its own. */
function writeTo({ path }: Device, block: number): string[] {
  const words = ['if=/dev/zero', `of=${path}`, 'bs=4k', 'count=1', `seek=${block}`];
  return ['dd', ...words, 'oflag=direct', 'conv=notrunc', 'status=none'];
}

const ASKED = ['--resend-writes', 'no', '--queues', '1', ...PATIENTLY];

/** In flight, by the disk and by the backend, which is stopped so that it stays so. */
async function writing(
  scope: Scope,
  device: Device,
  backend: Backend,
  log: string,
): Promise<Running> {
  const running = start(scope, writeTo(device, 7));
  await until('the backend has it', () => writesIn(log).includes('0x7000'));
  process.kill(backend.pid, 'SIGSTOP');
  assert(inFlight(device).writes > 0, 'the write is in flight');
  return running;
}

async function assertFailed(running: Running): Promise<void> {
  const outcome = await running.exited;
  assert.notEqual(outcome.status, 0, describe(outcome));
  assert.match(outcome.stderr, /Input\/output error/);
}

/** The offsets of the writes that nbdkit saw. */
function writesIn(log: string): string[] {
  const lines = readFileSync(log, 'utf8').matchAll(/ Write id=\d+ offset=(\w+) /g);
  return [...lines].map(([, offset]) => offset ?? '');
}

function slowWords(log: string): string[] {
  const filters = ['--filter=log', '--filter=delay'];
  return [...ONE_THREAD, ...filters, 'memory', '16M', `logfile=${log}`, 'wdelay=4'];
}

claim('the server process is killed', async (scope) => {
  const log = scope.path('log');
  const backend = await startNbdkit(scope, slowWords(log));
  const device = await connect(scope, backend.target, ...ASKED);
  const pid = await serverPid(device);
  const failing = await writing(scope, device, backend, log);
  process.kill(pid, 'SIGKILL');
  process.kill(backend.pid, 'SIGCONT');
  await untilServedByAnother(device, pid);
  await assertFailed(failing);
  await must(writeTo(device, 8));
  assert.deepEqual(writesIn(log), ['0x7000', '0x8000']);
  await device.disconnect();
});

claimToo('the backend is killed', async (scope) => {
  const logs = [scope.path('first'), scope.path('second')] as const;
  const port = await freePort();
  const backend = await startNbdkit(scope, slowWords(logs[0]), 'tcp', port);
  const device = await connect(scope, backend.target, ...ASKED);
  const failing = await writing(scope, device, backend, logs[0]);
  await killBackend(backend);
  await untilState(device, /HOLDING/);
  await startNbdkit(scope, slowWords(logs[1]), 'tcp', port);
  await untilState(device, /CONNECTED/);
  await assertFailed(failing);
  await must(writeTo(device, 8));
  assert.deepEqual(writesIn(logs[1]), ['0x8000']);
  await device.disconnect();
});
