/**
 * Owns: what is claimed alike of every origin behind a proxy that does wrong: whatever it is, the
 * device has the bytes of the image.
 * Runs in: device test processes, which are the proxy: nobody in them may wait for a device
 * synchronously.
 * Must not: know what kind of origin it is.
 */
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { isBrief, isFull } from './amount.ts';
import { assertSameBytes, dropCaches, MIB } from './block.ts';
import { readChecked } from './fio.ts';
import { type Fault, type HttpFaultProxy, honest } from './http-fault-proxy.ts';
import { anotherETag, oneOf, resetAfter } from './http-faults.ts';
import { untilState } from './kills.ts';
import { must, run, shell, start, until } from './process.ts';
import { type Device, listed } from './product.ts';
import { randomFrom } from './random.ts';
import type { Scope } from './scope.ts';

/** Of the images of such origins. */
export const MEBIBYTES = isFull ? 32 : 16;
export const OUTAGE_MS = isFull ? 60_000 : 3000;
/** Where a slow machine's silence must not be taken for the fault. */
const LONG_SILENCE_S = 60;
/** A fault is outlived, and seen soon: silence is one too, and shall not last long. */
export const PATIENCE: readonly string[] = [
  ...['--cache-memory', '32M', '--handshake-timeout', '3', '--reconnect-delay', '200'],
];

export const CUTS = isFull ? 1000 : isBrief ? 40 : 200;
const FIO_TIMEOUT_MS = isFull ? 900_000 : 240_000;
const SEED = 20261128;
/** Of a read of a random place, and more than what stands before it. */
const ANSWER_BYTES = 16 * 1024 + 400;

export interface FaultyOrigin {
  readonly proxy: HttpFaultProxy;
  /** The file with the bytes that the device is to have. */
  readonly image: string;
  connect(...options: readonly string[]): Promise<Device>;
}

/** Each of these reads is a request of its own; by other processes, since this one is the proxy. */
async function readApart(path: string, reads: number): Promise<void> {
  const blocks = (MEBIBYTES * MIB) / 4096;
  const read = `dd if=${path} of=/dev/null bs=4k count=1 iflag=direct status=none`;
  await shell(`for n in $(seq ${reads}); do ${read} skip=$((n * 1117 % ${blocks})) || exit; done`);
}

/** The whole device is the image, whatever the fault does, so often at least. */
export async function assertServesThrough(
  { proxy, image, connect }: FaultyOrigin,
  fault: Fault,
  strikes = 1,
): Promise<void> {
  const device = await connect();
  proxy.fault = fault;
  await dropCaches();
  // Of a sequence few requests are made.
  if (strikes > 1) await readApart(device.path, 3 * strikes);
  await assertSameBytes(device.path, image);
  assert(proxy.struck >= strikes, `it was struck ${proxy.struck} times`);
  assert.equal((await listed(device.path)).state, 'CONNECTED');
  await device.disconnect();
}

/** Of an image of 64 MiB that fio has written; so many connections are cut. */
export async function assertReadThroughResets(
  { proxy, connect }: FaultyOrigin,
  cuts = CUTS,
): Promise<void> {
  const device = await connect();
  const random = randomFrom(SEED);
  // One of ten: those who ask again more often than that are made to wait.
  proxy.fault = oneOf(10, (asked) => resetAfter(random(ANSWER_BYTES))(asked));
  const reads = { rw: 'randread', bs: '4k', iodepth: 16, number_ios: cuts * 12 };
  await readChecked(device.path, { size: '64m', ...reads }, FIO_TIMEOUT_MS);
  assert(proxy.struck >= cuts, `${proxy.struck} connections were reset`);
  await device.disconnect();
}

/** The answer to one reader is held back; all others read the rest meanwhile. */
export async function assertHoldsUpNobody(
  scope: Scope,
  { proxy, image, connect }: FaultyOrigin,
): Promise<void> {
  const device = await connect();
  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  scope.defer(() => release());
  let isHeld = false;
  proxy.fault = async (asked) => {
    if (isHeld) return honest(asked);
    isHeld = true;
    const answer = await asked.origin();
    await released;
    await asked.send(answer);
    return 'struck';
  };
  const block = ['bs=4k', 'count=1', 'iflag=direct', 'status=none'];
  const [held, expected] = [scope.path('held'), scope.path('expected')];
  const last = `skip=${MEBIBYTES * 256 - 1}`;
  const waiting = start(scope, ['dd', `if=${device.path}`, `of=${held}`, last, ...block]);
  await until('its answer is held', () => isHeld);
  const others = `bs=1M count=${MEBIBYTES - 1} iflag=direct status=none`.split(' ');
  await must(['dd', `if=${device.path}`, `of=${held}.others`, ...others]);
  await must(['cmp', '-n', String((MEBIBYTES - 1) * MIB), `${held}.others`, image]);
  release();
  assert.equal((await waiting.exited).status, 0);
  await must(['dd', `if=${image}`, `of=${expected}`, last, ...block]);
  await must(['cmp', held, expected]);
  await device.disconnect();
}

export async function assertOutlivesOutage(origin: FaultyOrigin): Promise<void> {
  const { proxy, image, connect } = origin;
  const device = await connect('--reconnect-delay', '600');
  let requests = 0;
  let goneAway: Promise<void> | undefined;
  proxy.fault = async (asked) => {
    requests += 1;
    if (requests === 4) goneAway = proxy.goAway();
    return honest(asked);
  };
  await dropCaches();
  const comparison = assertSameBytes(device.path, image);
  await untilState(device, /HOLDING/);
  await goneAway;
  await delay(OUTAGE_MS);
  assert.equal((await listed(device.path)).state, 'HOLDING');
  await proxy.comeBack();
  await comparison;
  await device.disconnect();
}

/** What is wrong for longer than --reconnect-delay is EIO, with its reason, until it is right. */
export async function assertFailsWhileWrong(
  { proxy, image, connect }: FaultyOrigin,
  fault: Fault,
  why: RegExp,
): Promise<void> {
  const silence = ['--handshake-timeout', String(LONG_SILENCE_S)];
  const device = await connect('--reconnect-delay', '1', ...silence);
  proxy.fault = fault;
  // The kernel has looked for partitions, and read what stands at the beginning and at the end.
  const middle = ['bs=1M', `skip=${MEBIBYTES >> 1}`, 'count=1'];
  const read = await run(['dd', `if=${device.path}`, 'of=/dev/null', ...middle]);
  assert.match(read.stderr, /Input\/output error/);
  const { state, reason } = await listed(device.path);
  assert.equal(state, 'FAILING');
  assert.match(reason ?? '', why);
  proxy.fault = honest;
  await untilState(device, /CONNECTED/);
  await dropCaches();
  await assertSameBytes(device.path, image);
  await device.disconnect();
}

/** Another object in the middle of a read is FATAL, and no byte of it is seen. */
export async function assertNeverMixes(scope: Scope, origin: FaultyOrigin): Promise<void> {
  const { proxy, image, connect } = origin;
  const device = await connect();
  proxy.fault = oneOf(4, anotherETag);
  const seen = scope.path('seen');
  const copy = await run(['dd', `if=${device.path}`, `of=${seen}`, 'bs=64k', 'iflag=direct']);
  assert.match(copy.stderr, /Input\/output error/);
  assert.equal(proxy.struck, 1, 'and nothing is asked for any more');
  await must(['cmp', '-n', String(statSync(seen).size), seen, image]);
  const { state, reason } = await listed(device.path);
  assert.equal(state, 'FATAL');
  assert.match(reason ?? '', /is another object now: its ETag was/);
  await device.disconnect();
}
