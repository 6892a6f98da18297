/**
 * Claim: many connects and disconnects, and a long time of faults of every kind under load, cost
 * no I/O error, no wrong byte, and leave no descriptor, thread, process, device or file behind.
 * Method: a short form in every run; `npm run soak` is the long one. Which fault comes when is
 * decided by a seed, which is printed.
 */
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { isBrief, isFull } from '../support/amount.ts';
import { startNbdkit } from '../support/backends.ts';
import { claim, tellFigure } from '../support/claim.ts';
import { DirectFile } from '../support/direct-file.ts';
import {
  killController,
  killServerProcess,
  PATIENTLY,
  serverPid,
  untilState,
} from '../support/kills.ts';
import { controllerPid } from '../support/leftovers.ts';
import { upgradeMust } from '../support/package-copy.ts';
import { packageFolder } from '../support/package-folder.ts';
import { until } from '../support/process.ts';
import { connect, type Device, listed, ublkNbdMust } from '../support/product.ts';
import { type Random, randomFrom } from '../support/random.ts';
import { SlowNbdkit } from '../support/slow-nbdkit.ts';
import { verifyThrough } from '../support/under-load.ts';
import { type Usage, usageOf, usageText } from '../support/usage.ts';

const setting = (name: string): number | undefined => {
  const text = process.env[`UBLK_NBD_SOAK_${name}`];
  return text === undefined ? undefined : Number(text);
};
const CYCLES = setting('CYCLES') ?? (isFull ? 200 : isBrief ? 2 : 20);
const MINUTES = setting('MINUTES') ?? (isFull ? 20 : 0);
const SEED = setting('SEED') ?? Date.now() % 1_000_000;
/** Until nothing is made for the first time any more. */
const WARM_UP_CYCLES = 2;
const SETTLE_MS = 250;
const FAULTS_AT_A_TIME = isBrief ? 3 : 10;
const TIMEOUT_MS = 1_800_000 + 3 * MINUTES * 60_000;

async function controllerUsage(): Promise<Usage> {
  await ublkNbdMust('list');
  const pid = controllerPid();
  assert(pid !== undefined, 'a controller runs');
  // The connection of that command has ended for us before it has for the controller.
  let usage = usageOf(pid);
  await until('two looks at the controller find the same', async () => {
    const before = usage;
    await delay(SETTLE_MS);
    usage = usageOf(pid);
    return usage.descriptors === before.descriptors;
  });
  return usage;
}

claim(
  `${CYCLES} connects and disconnects leave nothing in the controller`,
  async (scope) => {
    const backend = await startNbdkit(scope, ['pattern', '16M']);
    const targets = [backend.target, 'null:16M', 'memory:16M'];
    const cycle = async (n: number): Promise<void> => {
      const device = await connect(scope, targets[n % targets.length] ?? backend.target);
      const file = new DirectFile(device.path);
      file.read(4096, 4096);
      file.close();
      await device.disconnect();
    };
    for (let n = 0; n < WARM_UP_CYCLES; n += 1) await cycle(n);
    const before = await controllerUsage();
    for (let n = 0; n < CYCLES; n += 1) await cycle(n);
    let after = before;
    await until('the controller holds what it held before', async () => {
      after = await controllerUsage();
      return after.descriptors <= before.descriptors;
    });
    tellFigure(usageText(`controller, ${CYCLES} cycles`, before, after));
  },
  { timeoutMs: TIMEOUT_MS },
);

type Fault = (device: Device, backend: SlowNbdkit) => Promise<void>;

const FAULTS: Readonly<Record<string, Fault>> = {
  'the backend dies': async (device, backend) => {
    await backend.kill();
    await untilState(device, /HOLDING/);
    await backend.restart();
  },
  'the server process dies': (device) => killServerProcess(device),
  'the server process is told to end': (device) => killServerProcess(device, 'SIGTERM'),
  'the controller dies': () => killController(),
  'the controller and the server process die': async (device) => {
    const pid = await serverPid(device);
    await killController();
    process.kill(pid, 'SIGKILL');
  },
  'the backend and the server process die': async (device, backend) => {
    const pid = await serverPid(device);
    await backend.kill();
    process.kill(pid, 'SIGKILL');
    await backend.restart();
  },
  'the device is upgraded': async (device) => {
    await upgradeMust(packageFolder, device.path);
  },
};

function oneOf(random: Random): [string, Fault] {
  const all = Object.entries(FAULTS);
  const chosen = all[random(all.length)];
  assert(chosen !== undefined);
  return chosen;
}

claim(
  `fio verifies through faults of every kind, ${MINUTES} minutes, seed ${SEED}`,
  async (scope) => {
    const random = randomFrom(SEED);
    const backend = await SlowNbdkit.start(scope, 64);
    const device = await connect(scope, backend.target, ...PATIENTLY);
    const before = usageOf(await serverPid(device));
    const met = new Map<string, number>();
    const endMs = Date.now() + MINUTES * 60_000;
    do {
      await verifyThrough(device, FAULTS_AT_A_TIME, async () => {
        const [name, fault] = oneOf(random);
        met.set(name, (met.get(name) ?? 0) + 1);
        await fault(device, backend);
        await untilState(device, /CONNECTED/);
      });
    } while (Date.now() < endMs);
    const { serverPid: pid, state } = await listed(device.path);
    assert.equal(state, 'CONNECTED');
    let after = usageOf(pid);
    // What a reconnect leaves is closed a moment after the device is told to be well.
    await until('its server process holds no more than the first', () => {
      after = usageOf(pid);
      return after.descriptors <= before.descriptors;
    }).catch(() => undefined);
    for (const [name, times] of met) tellFigure(`${times} times: ${name}`);
    tellFigure(usageText('server process, the first and the last', before, after));
    assert(after.descriptors <= before.descriptors, 'no successor holds more than the first');
    await device.disconnect();
  },
  { timeoutMs: TIMEOUT_MS },
);
