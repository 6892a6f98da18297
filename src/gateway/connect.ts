/**
 * Owns: `connect` as a sequence of steps: claim an id, launch, open the backend, ADD, queues,
 * START, nodes, link.
 * Runs in: the controller and `connect --foreground`.
 * Must not: leave anything of a sequence that did not reach its end, or add a device before its
 * backend is known to be usable.
 */
import { GatewayError } from '../protocols/errors.ts';
import { unlessAborted } from '../protocols/unless-aborted.ts';
import { claimDevice, moveToNextId, releaseDevice } from './claim.ts';
import type { Device } from './device.ts';
import { removeFromDriver } from './disconnect.ts';
import { endServerProcess } from './end-process.ts';
import type { Host } from './host.ts';
import { serverProcessForDevice } from './launch-for-device.ts';
import { serverEnded, whileServed } from './lost.ts';
import type { ConnectOptions } from './messages.ts';
import { type DevicePlan, planDevice } from './params.ts';
import type { Peer } from './rpc.ts';
import type { OpenAnswer, OpenArgument } from './server-messages.ts';
import { startQueues } from './start-queues.ts';
import { Steps } from './undo.ts';

/** Above what the server process's own limits add up to; it answers or fails before. */
const OPEN_TIMEOUT_MS = 300_000;
const FAIL_ALL_TIMEOUT_MS = 1_000;

export interface ConnectContext {
  readonly signal: AbortSignal;
  progress(text: string): void;
}

/** Resolves with a device that can be opened; rejects with nothing left behind. */
export async function connectDevice(
  host: Host,
  options: ConnectOptions,
  context: ConnectContext,
): Promise<Device> {
  const { signal } = context;
  const steps = new Steps(
    signal,
    (name) => context.progress(name),
    (name, error) => host.log('error', undefined, `undo of '${name}' failed: ${error.line}`),
  );
  try {
    return await connectSteps(host, options, signal, steps);
  } catch (error) {
    await steps.undoAll();
    throw signal.aborted ? new GatewayError('UNBD_INTERRUPTED', 'interrupted') : error;
  }
}

interface Prepared {
  readonly device: Device;
  readonly peer: Peer;
  readonly plan: DevicePlan;
}

async function connectSteps(
  host: Host,
  options: ConnectOptions,
  signal: AbortSignal,
  steps: Steps,
): Promise<Device> {
  const prepared = await addSteps(host, options, signal, steps);
  await startSteps(host, prepared, signal, steps);
  const { device, plan } = prepared;
  const { name } = options;
  await steps.run('find the block device', () => findBlock(host, device));
  if (plan.scanPartitions) {
    await steps.runUnlessInterrupted('look for partitions', () => lookForPartitions(host, device));
  }
  if (name !== undefined) {
    await steps.run(
      'make the link',
      () => host.nodes.makeLink(name, device.id),
      () => host.nodes.removeLink(name, device.id),
    );
  }
  await steps.runUnlessInterrupted('open the device', () =>
    whileServed(device, host.nodes.prove(device.id)),
  );
  await becomeConnected(host, device);
  return device;
}

/** Everything that can fail at the backend comes before the device is added. */
async function addSteps(
  host: Host,
  options: ConnectOptions,
  signal: AbortSignal,
  steps: Steps,
): Promise<Prepared> {
  const device = await steps.run(
    'choose a device number',
    () => claimDevice(host, options),
    (claimed) => releaseDevice(host, claimed),
  );
  const features = await steps.run('ask the driver', () => host.control.features());
  const peer = await steps.run(
    'start the server process',
    () => serverProcessForDevice(host, device, signal),
    () => endServerProcess(host, device),
  );
  const { processors } = host;
  const argument: OpenArgument = { options, processors };
  // A download takes as long as it takes, and one that brings nothing ends by itself.
  const isLong = options.spool === true;
  const timeoutMs = isLong ? undefined : OPEN_TIMEOUT_MS + (options.openTimeoutMs ?? 0);
  const onProgress = (text: string): void => steps.tell(text);
  const opened = (await steps.runUnlessInterrupted('open the backend', () =>
    peer.request('open', argument, { timeoutMs, onProgress }),
  )) as OpenAnswer;
  const plan = planDevice({ options, ...opened, features, processors });
  await steps.run(
    'add the device',
    () => addDevice(host, device, plan, opened),
    async () => {
      // The driver waits for the char device to be closed before it lets go of a device.
      await endServerProcess(host, device);
      await removeFromDriver(host, device.id);
    },
  );
  return { device, peer, plan };
}

async function startSteps(
  host: Host,
  { device, peer, plan }: Prepared,
  signal: AbortSignal,
  steps: Steps,
): Promise<void> {
  await steps.run(
    'find the char device',
    async () => device.update({ madeNodes: await host.nodes.ensureChar(device.id) }),
    () => host.nodes.remove(device.record.madeNodes),
  );
  await steps.runUnlessInterrupted('start the queues', () =>
    startQueues(device, peer, {
      suppressPartitionScan: plan.suppressPartitionScan,
      recovery: false,
      failing: false,
    }),
  );
  await steps.run(
    'start the device',
    () => startDevice(host, device, peer, signal),
    () => stopDevice(host, device, peer),
  );
  await steps.runUnlessInterrupted('set up its queue', () =>
    whileServed(device, host.control.tune(device.id, plan.needsShortTimeout)),
  );
}

/**
 * ADD_DEV and SET_PARAMS under the claimed id, or under the next free one when somebody else took
 * it.
 */
async function addDevice(
  host: Host,
  device: Device,
  plan: DevicePlan,
  opened: OpenAnswer,
): Promise<void> {
  const { readOnly, logicalBlockBytes, sizeBytes } = plan;
  for (;;) {
    const { flags, queueCount, depth, maxIoBytes } = plan;
    const request = { id: device.id, flags, queueCount, depth, maxIoBytes, params: plan.params };
    const added = await host.control.add(request);
    if (added === 'exists') {
      moveToNextId(host, device);
      continue;
    }
    device.update({
      backend: opened.backend,
      ...(opened.fingerprint === undefined ? {} : { fingerprint: opened.fingerprint }),
      ...(opened.identity === undefined ? {} : { identity: opened.identity }),
      shape: {
        queues: added.queueCount,
        depth: added.depth,
        maxIoBytes: added.maxIoBytes,
        sizeBytes,
        readOnly,
        logicalBlockBytes,
        flags: added.flags,
      },
    });
    return;
  }
}

/**
 * START_DEV. Should it read from a backend that hangs, an abort makes the queues fail what is asked
 * of them, so that it comes back.
 */
async function startDevice(
  host: Host,
  device: Device,
  peer: Peer,
  signal: AbortSignal,
): Promise<void> {
  const { pid } = peer.remote;
  const starting = host.control.start(device.id, pid);
  try {
    await unlessAborted(whileServed(device, starting), signal);
  } catch (error) {
    await stopDevice(host, device, peer);
    await starting.catch(() => undefined);
    throw error;
  }
}

async function findBlock(host: Host, device: Device): Promise<void> {
  const made = await host.nodes.ensureBlock(device.id);
  device.update({ madeNodes: [...device.record.madeNodes, ...made] });
}

/** The device is as good without its partitions: what prevents a scan is told, no more. */
async function lookForPartitions(host: Host, device: Device): Promise<void> {
  const trouble = await whileServed(device, host.nodes.scanPartitions(device.id));
  if (trouble !== undefined) host.log('warning', device.id, trouble);
  await findBlock(host, device);
}

async function stopDevice(host: Host, device: Device, peer: Peer): Promise<void> {
  await peer.request('failAll', null, { timeoutMs: FAIL_ALL_TIMEOUT_MS }).catch(() => undefined);
  await host.control.stop(device.id);
}

async function becomeConnected(host: Host, device: Device): Promise<void> {
  if (device.serverProcess === undefined || (await device.serverProcess.waitForExit(0))) {
    throw serverEnded('ended before the device was ready');
  }
  const { earlyTrouble } = device;
  if (earlyTrouble !== undefined) {
    const isViolation = earlyTrouble.kind === 'protocol-violation';
    const code = isViolation ? 'UNBD_BACKEND_PROTOCOL' : 'UNBD_BACKEND_CLOSED';
    throw new GatewayError(code, earlyTrouble.text, { hint: 'see the log of the backend' });
  }
  const { state, text } = device.backendEvent;
  if (state === 'FATAL' || state === 'FAILING') {
    throw new GatewayError('UNBD_BACKEND_IO', text, { hint: 'look at the backend, and try again' });
  }
  device.goOn('CONNECTED', undefined);
  device.update({ phase: 'live', connectedAtMs: host.nowMs() });
}
