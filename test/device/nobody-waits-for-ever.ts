/**
 * Claim: whatever dies, nobody is left waiting in the kernel (state D) once the device is
 * recovered, its wait is over, or it is disconnected.
 * Method: dd waits in a read and in a write of a backend that is slow or gone; then each kind of
 * kill; then the states of all processes.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { type Backend, freePort, isRunning, ONE_THREAD, startNbdkit } from '../support/backends.ts';
import { sysfsText } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { controllerPid } from '../support/leftovers.ts';
import { type Running, start, until } from '../support/process.ts';
import { connect, type Device, listed, ublkNbd } from '../support/product.ts';
import type { Scope } from '../support/scope.ts';

/** Processes that wait in the kernel and cannot be ended: `pid name`. */
function waitingInKernel(): string[] {
  return readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return [];
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const [state] = stat.slice(stat.lastIndexOf(')') + 2);
      return state === 'D' ? [`${pid} ${stat.slice(0, stat.lastIndexOf(')') + 1)}`] : [];
    } catch {
      return [];
    }
  });
}

/** Stuck is who waits in every look of 30 s: kernel workers and others wait for a moment. */
async function assertNobodyStuck(): Promise<void> {
  let stuck = waitingInKernel();
  const isNobody = (): boolean => {
    const now = waitingInKernel();
    stuck = stuck.filter((who) => now.includes(who));
    return stuck.length === 0;
  };
  await until('nobody is in state D', isNobody, 30_000).catch(() => undefined);
  assert.deepEqual(stuck, []);
}

interface Slow {
  readonly backend: Backend;
  readonly device: Device;
}

/** A read and a write that are in flight, and stay so until goOn(): the backend is stopped. */
async function waiting(scope: Scope, { backend, device }: Slow): Promise<readonly Running[]> {
  scope.defer(() => goOn(backend));
  process.kill(backend.pid, 'SIGSTOP');
  const direct = ['dd', 'status=none', 'bs=4096', 'count=1'];
  const both = [
    start(scope, [...direct, `if=${device.path}`, 'of=/dev/null', 'iflag=direct']),
    start(scope, [...direct, 'if=/dev/zero', `of=${device.path}`, 'oflag=direct', 'seek=9']),
  ];
  const inFlight = () => sysfsText(device.node, 'inflight').split(/\s+/).map(Number);
  await until('both wait', () => inFlight().every((count) => count > 0));
  return both;
}

function goOn({ pid }: Backend): void {
  if (isRunning(pid)) process.kill(pid, 'SIGCONT');
}

async function slowDevice(scope: Scope, ...options: readonly string[]): Promise<Slow> {
  const words = [...ONE_THREAD, '--filter=delay', 'memory', '16M', 'rdelay=3', 'wdelay=3'];
  const backend = await startNbdkit(scope, words, 'tcp', await freePort());
  return { backend, device: await connect(scope, backend.target, ...options) };
}

function theController(): number {
  const pid = controllerPid();
  assert(pid !== undefined, 'a controller runs');
  return pid;
}

const kills = {
  'the server process': async ({ path }: Device) => [(await listed(path)).serverPid],
  'the controller': async () => [theController()],
  'the controller and the server process': async ({ path }: Device) => {
    const { serverPid } = await listed(path);
    return [theController(), serverPid];
  },
} as const;

for (const [who, pidsOf] of Object.entries(kills)) {
  const also = who === 'the server process' ? claim : claimToo;
  also(`kill -9 of ${who}`, async (scope) => {
    const slow = await slowDevice(scope);
    const { backend, device } = slow;
    const pids = await pidsOf(device);
    const both = await waiting(scope, slow);
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    goOn(backend);
    await until('it is served', async () => (await listed(device.path)).state === 'CONNECTED');
    for (const dd of both) assert.equal((await dd.exited).status, 0);
    await assertNobodyStuck();
    await device.disconnect();
  });
}

claimToo('kill -9 of the server process with --on-crash fail', async (scope) => {
  const slow = await slowDevice(scope, '--on-crash', 'fail');
  const { device } = slow;
  const both = await waiting(scope, slow);
  process.kill((await listed(device.path)).serverPid, 'SIGKILL');
  for (const dd of both) assert.notEqual((await dd.exited).status, 0);
  await until('it is DEAD', async () => (await listed(device.path)).state === 'DEAD');
  await assertNobodyStuck();
  await device.disconnect();
});

claimToo('kill -9 of the backend, until the wait is over', async (scope) => {
  const slow = await slowDevice(scope, '--reconnect-delay', '2');
  const { backend, device } = slow;
  const both = await waiting(scope, slow);
  process.kill(backend.pid, 'SIGKILL');
  for (const dd of both) assert.notEqual((await dd.exited).status, 0);
  await assertNobodyStuck();
  await ublkNbd(['disconnect', device.path, '--drain-timeout', '1']);
  await assertNobodyStuck();
});

claimToo('kill -9 of the backend and the server process, until --force', async (scope) => {
  const slow = await slowDevice(scope, '--reconnect-delay', 'inf');
  const { backend, device } = slow;
  const both = await waiting(scope, slow);
  const { serverPid } = await listed(device.path);
  process.kill(backend.pid, 'SIGKILL');
  process.kill(serverPid, 'SIGKILL');
  await device.disconnect('--force');
  for (const dd of both) assert.notEqual((await dd.exited).status, 0);
  await assertNobodyStuck();
});
