/**
 * Claim: whatever a backend does in the transmission phase, no I/O gets wrong data, the device
 * says in one line what happened and who did it, and it can be disconnected.
 * Method: every fault of the scripted backend, each on a device of its own that asks for the
 * fault's style of replies, waits for nobody and gets no second connection, so that what the fault
 * did stays to be seen. The backend lives in this process, so I/O here is asynchronous; devices are
 * made through the controller's own interface, as three more processes a fault would cost more than
 * the test.
 */
import assert from 'node:assert/strict';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { callController } from '../../src/gateway/client.ts';
import type { ConnectOptions, DeviceView } from '../../src/gateway/messages.ts';
import type { GatewayError } from '../../src/protocols/errors.ts';
import { isBrief, isLeast } from '../support/amount.ts';
import { MIB, patternBytes } from '../support/block.ts';
import { claim } from '../support/claim.ts';
import { alignedMemory } from '../support/direct-file.ts';
import { must, until } from '../support/process.ts';
import { sanitizerEnvironment, ublkNbdMust } from '../support/product.ts';
import type { Scope } from '../support/scope.ts';
import { type ScriptedNbd, startScriptedNbd } from '../support/scripted-nbd.ts';
import {
  type Outcome,
  type TransmissionFault,
  transmissionFaults,
} from '../support/scripted-nbd-transmission-faults.ts';

// The controller takes its settings from the process that starts it.
Object.assign(process.env, sanitizerEnvironment());

const lengthBytes = 64 * 1024;
/** In the second MiB, where faults are played, and in the third, where none is. */
const hitBytes = MIB + lengthBytes;
const quietBytes = 2 * MIB;

/**
 * What a reader may see of an error: kernels pass on only those that their block layer has a name
 * for.
 */
const visible: Readonly<Record<Exclude<Outcome, 'violation' | 'lost' | 'stalls'>, string[]>> = {
  ok: ['none'],
  EPERM: ['EIO', 'EPERM'],
  EIO: ['EIO'],
  ENOMEM: ['ENOMEM', 'EIO'],
  EINVAL: ['EINVAL', 'EIO'],
  ENOSPC: ['ENOSPC'],
  EOVERFLOW: ['EIO', 'EINVAL', 'EOVERFLOW'],
  // A discard that is not supported is no error, and zeroing is done by writing then.
  ENOTSUP: ['EOPNOTSUPP', 'ENOTSUP', 'EIO', 'none'],
  ESHUTDOWN: ['EIO'],
};

/**
 * An emulated machine plays one fault of each outcome in either reply style, where every errno is
 * the same outcome (nbd_reply_test.cc tells them apart), or every fourth of these;
 * others play all.
 */
function chosenFaults(): readonly TransmissionFault[] {
  if (!isBrief) return transmissionFaults;
  const kinds = new Map<string, TransmissionFault>();
  for (const fault of transmissionFaults) {
    const kind = `${fault.replies} ${fault.outcomes}`.replaceAll(/\bE[A-Z]+/g, 'errno');
    if (!kinds.has(kind)) kinds.set(kind, fault);
  }
  return [...kinds.values()].filter((_, n) => !isLeast || n % 4 === 0);
}

async function connectTo(
  scope: Scope,
  backend: ScriptedNbd,
  replies: TransmissionFault['replies'],
): Promise<DeviceView> {
  const [host = '', port = ''] = backend.target.split(':');
  const options: ConnectOptions = {
    target: {
      kind: 'nbd',
      endpoint: { kind: 'tcp', host, port: Number(port) },
      exportName: '',
      text: `nbd://${backend.target}`,
    },
    readOnly: false,
    queues: 1,
    partitionScan: false,
    dataPath: 'copy',
    handshakeTimeoutMs: 60_000,
    reconnectDelayMs: 0,
    ...(replies === 'structured' && { structuredReplies: true }),
  };
  const device = await callController('connect', options);
  scope.defer(async () => {
    if (await isThere(device.id)) await disconnect(device, true);
  });
  return device;
}

async function disconnect({ id }: DeviceView, force: boolean): Promise<void> {
  await callController('disconnect', { device: String(id), force });
}

async function isThere(id: number): Promise<boolean> {
  const devices = await callController('list', { verbose: false });
  return devices.some((device) => device.id === id);
}

async function view(id: number): Promise<DeviceView> {
  const devices = await callController('list', { verbose: true });
  const found = devices.find((device) => device.id === id);
  assert(found, 'the device is listed');
  return found;
}

class Disk {
  readonly path: string;
  readonly #file: FileHandle;
  readonly #memory = alignedMemory(lengthBytes);

  constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  async read(offsetBytes: number): Promise<void> {
    this.#memory.fill(0xa5);
    const { bytesRead } = await this.#file.read(this.#memory, 0, lengthBytes, offsetBytes);
    assert.equal(bytesRead, lengthBytes);
    const right = this.#memory.equals(patternBytes(offsetBytes, lengthBytes));
    assert(right, `wrong data at ${offsetBytes}`);
  }

  /** The request that the fault waits for; writes put there what is there. */
  async request(command: TransmissionFault['command']): Promise<void> {
    if (command === 'enter' || command === 'read') return this.read(hitBytes);
    if (command === 'flush') return this.#file.sync();
    if (command === 'write') {
      this.#memory.set(patternBytes(hitBytes, lengthBytes));
      const { bytesWritten } = await this.#file.write(this.#memory, 0, lengthBytes, hitBytes);
      return assert.equal(bytesWritten, lengthBytes);
    }
    const range = ['--offset', String(hitBytes), '--length', String(lengthBytes), this.path];
    await must(['blkdiscard', ...(command === 'writeZeroes' ? ['--zeroout'] : []), ...range]);
  }
}

/** The errno name of an I/O error, also of a program's message; rejects with what is none. */
async function errorName(work: Promise<void>): Promise<string> {
  try {
    await work;
    return 'none';
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (/^E[A-Z]+$/.test(code) && code !== 'ERR_ASSERTION') return code;
    const texts = { EIO: /Input\/output error/, EINVAL: /Invalid argument/, ENOSPC: /No space/ };
    const more = { EPERM: /not permitted/, EOPNOTSUPP: /not supported/, ENOMEM: /allocate memory/ };
    const text = String(error);
    const known = Object.entries({ ...texts, ...more }).find(([, pattern]) => pattern.test(text));
    if (known === undefined) throw error;
    return known[0];
  }
}

async function assertBlamed(device: DeviceView): Promise<void> {
  await until('list tells', async () => (await view(device.id)).state !== 'CONNECTED');
  const { state, reason = '' } = await view(device.id);
  assert.match(state, /^(FAILING|FATAL)$/);
  assert.match(reason, /backend/, 'it says who');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be there
  assert.doesNotMatch(reason, /[\x00-\x1f]/, 'one clean line');
}

async function play(scope: Scope, fault: TransmissionFault): Promise<void> {
  const backend = await startScriptedNbd({ fault: fault.name, connectionsMax: 1 });
  scope.defer(() => backend.close());
  const device = await connectTo(scope, backend, fault.replies).catch((error: GatewayError) => {
    // What is wrong from the first byte on may be seen before the device is ready.
    assert.equal(fault.command, 'enter', error.message);
    assert.match(error.line, /backend.*\[UNBD_BACKEND_(PROTOCOL|CLOSED)\]$/);
  });
  if (device === undefined) return;
  const { structuredReplies } = backend.counters;
  assert.equal(structuredReplies, Number(fault.replies === 'structured'), 'who asks has them');
  const file = await open(device.path, constants.O_RDWR | constants.O_DIRECT);
  scope.defer(() => file.close().catch(() => undefined));
  const disk = new Disk(device.path, file);
  const result = errorName(disk.request(fault.command));
  if (fault.outcomes.includes('stalls')) {
    await until('the fault was played', () => backend.counters.faults > 0 || hit(backend));
    const ended = disconnect(device, true);
    assert.equal(await result, 'EIO', 'the end of the device ends the wait');
    await file.close();
    await ended;
    return;
  }
  const error = await result;
  const lives = fault.outcomes.filter((name) => name !== 'violation' && name !== 'lost');
  if (lives.length === 0) await assertBlamed(device);
  // Who reads knows of a loss before the controller does.
  const later = await errorName(disk.read(quietBytes));
  const isLost = later !== 'none';
  if (!isLost) {
    const allowed = lives.flatMap((name) => visible[name as keyof typeof visible] ?? []);
    assert(allowed.includes(error), `${error} is one of ${allowed}`);
    await disk.read(quietBytes + lengthBytes);
    assert.equal((await view(device.id)).state, 'CONNECTED');
  } else {
    assert.notEqual(fault.outcomes.length, lives.length, `the connection lives on, not ${later}`);
    // Where the first reply was right, the violation comes behind it.
    const wasAnswered = /twice|after-done/.test(fault.name);
    if (fault.command !== 'enter' && !wasAnswered) assert.equal(error, 'EIO');
    await assertBlamed(device);
    assert.equal(later, 'EIO', 'later I/O fails too');
  }
  await file.close();
  // What is cached cannot be flushed to a backend that is gone, so that needs --force.
  await disconnect(device, isLost || fault.command === 'flush');
  assert.deepEqual(backend.clientErrors, [], 'we kept to the protocol ourselves');
}

/** A request has come in that was not answered. */
function hit({ counters }: ScriptedNbd): boolean {
  return counters.reads + counters.writes + counters.flushes > 0;
}

for (const fault of chosenFaults()) {
  claim(`${fault.name}: ${fault.outcomes.join(' or ')}`, (scope) => play(scope, fault));
}

claim('list and logs tell in one line what a backend did', async (scope) => {
  const backend = await startScriptedNbd({ fault: 'chunk-with-wrong-magic', connectionsMax: 1 });
  scope.defer(() => backend.close());
  const device = await connectTo(scope, backend, 'structured');
  const file = await open(device.path, constants.O_RDONLY | constants.O_DIRECT);
  scope.defer(() => file.close().catch(() => undefined));
  const disk = new Disk(device.path, file);
  assert.equal(await errorName(disk.read(hitBytes)), 'EIO');
  await assertBlamed(device);
  const lines = (await ublkNbdMust('list')).split('\n');
  const line = lines.find((text) => text.startsWith(device.path)) ?? '';
  assert.match(line, /backend.*magic/);
  assert.match(await ublkNbdMust('logs', device.path), /error.*backend.*magic/);
  await file.close();
  await ublkNbdMust('disconnect', device.path, '--force');
});
