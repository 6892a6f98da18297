/**
 * Owns: the list of what the commands need from src/gateway, each loaded when it is called.
 * Runs in: the CLI.
 * Must not: decide or print anything. Static imports here are types: a module of the gateway costs
 * its load time only to the command that uses it.
 */
import type { CacheEntryView, PruneStep, VerifyStep } from '../src/gateway/cache-folder.ts';
import type { DaemonOptions } from '../src/gateway/daemon.ts';
import type { Check } from '../src/gateway/doctor.ts';
import type { DisconnectHow } from '../src/gateway/drain.ts';
import type { TargetInfo } from '../src/gateway/info.ts';
import type { ConnectOptions, DeviceEvent, DeviceView } from '../src/gateway/messages.ts';
import type { MountRequest } from '../src/gateway/mount.ts';
import type { OriginOptions } from '../src/gateway/open-source.ts';
import type { Upgrade } from '../src/gateway/upgrade-controller.ts';
import type { Target } from '../src/protocols/adapter.ts';

export interface Gateway {
  parseTarget(text: string, exportName: string | undefined): Promise<Target>;
  /** `onProgress` is told what is done at the moment, one line. */
  connect(
    options: ConnectOptions,
    signal: AbortSignal,
    onProgress?: (text: string) => void,
  ): Promise<DeviceView>;
  /** Returns when `signal` has ended the device, or throws when the device ended by itself. */
  connectForeground(
    options: ConnectOptions,
    signal: AbortSignal,
    onReady: (device: DeviceView) => void,
    drainTimeoutMs: number | undefined,
    onProgress?: (text: string) => void,
  ): Promise<void>;
  /** Aborted, the device is taken back. */
  disconnect(device: string, how: DisconnectHow): Promise<void>;
  /** Returns when the device is served again. */
  recover(device: string): Promise<void>;
  /** Replaces the controller, and gives the way to upgrade devices. */
  beginUpgrade(): Promise<Upgrade>;
  /** Returns on `signal`. */
  events(signal: AbortSignal, onEvent: (event: DeviceEvent) => void): Promise<void>;
  list(verbose: boolean): Promise<readonly DeviceView[]>;
  /** The devices of a controller that runs; none is started. */
  listRunning(): Promise<readonly DeviceView[]>;
  /** `origin`: of a target on a web server or in S3. */
  info(target: Target, signal: AbortSignal, origin?: OriginOptions): Promise<TargetInfo>;
  mount(
    request: MountRequest,
    signal: AbortSignal,
    onProgress?: (text: string) => void,
  ): Promise<DeviceView>;
  umount(directory: string, drainTimeoutMs: number | undefined, signal: AbortSignal): Promise<void>;
  /** `directory`: undefined is the default one, which need not be there. */
  listCache(directory: string | undefined): Promise<readonly CacheEntryView[]>;
  /** `olderThanDays`: undefined is every entry that is not in use. */
  pruneCache(
    directory: string | undefined,
    olderThanDays: number | undefined,
    signal: AbortSignal,
  ): AsyncIterable<PruneStep>;
  verifyCache(directory: string | undefined, signal: AbortSignal): AsyncIterable<VerifyStep>;
  doctor(): Promise<readonly Check[]>;
  daemon(options: DaemonOptions, signal: AbortSignal): Promise<void>;
  logs(device: string | undefined): AsyncIterable<string>;
}

const client = () => import('../src/gateway/client.ts');

export const gateway: Gateway = {
  async parseTarget(text, exportName) {
    const { parseTarget } = await import('../src/protocols/target.ts');
    return parseTarget(text, exportName === undefined ? {} : { exportName });
  },
  async connect(options, signal, onProgress) {
    return (await client()).callController('connect', options, { signal, onProgress });
  },
  async connectForeground(options, signal, onReady, drainTimeoutMs, onProgress) {
    const { runForeground } = await import('../src/gateway/foreground.ts');
    await runForeground(options, signal, onReady, drainTimeoutMs, onProgress);
  },
  async disconnect(device, { force, drainTimeoutMs, signal }) {
    const options = signal === undefined ? {} : { signal };
    const argument = { device, force, drainTimeoutMs };
    await (await client()).callController('disconnect', argument, options);
  },
  async recover(device) {
    await (await client()).callController('recover', { device });
  },
  async beginUpgrade() {
    const { beginUpgrade } = await import('../src/gateway/upgrade-controller.ts');
    return beginUpgrade();
  },
  async events(signal, onEvent) {
    const { withController } = await client();
    await withController((call) => call('events', null, { signal }), signal, onEvent);
  },
  async list(verbose) {
    return (await client()).callController('list', { verbose });
  },
  async listRunning() {
    const { callOver, openPeer } = await client();
    const { controllerSocket } = await import('../src/gateway/run-dir.ts');
    const peer = await openPeer(controllerSocket());
    if (peer === undefined) return [];
    try {
      return await callOver(peer)('list', { verbose: false });
    } finally {
      peer.close();
    }
  },
  async info(target, signal, origin) {
    const { backendInfo } = await import('../src/gateway/info.ts');
    return backendInfo(target, signal, origin);
  },
  async mount(request, signal, onProgress) {
    const { mountTarget } = await import('../src/gateway/mount.ts');
    return mountTarget(request, signal, onProgress);
  },
  async umount(directory, drainTimeoutMs, signal) {
    const { umountDirectory } = await import('../src/gateway/mount.ts');
    await umountDirectory(directory, drainTimeoutMs, signal);
  },
  async listCache(directory) {
    const { listCache } = await import('../src/gateway/cache-folder.ts');
    return listCache(directory);
  },
  async *pruneCache(directory, olderThanDays, signal) {
    const { pruneCache } = await import('../src/gateway/cache-folder.ts');
    yield* pruneCache(directory, olderThanDays, signal);
  },
  async *verifyCache(directory, signal) {
    const { verifyCache } = await import('../src/gateway/cache-folder.ts');
    yield* verifyCache(directory, signal);
  },
  async doctor() {
    const { runDoctor } = await import('../src/gateway/doctor.ts');
    return runDoctor();
  },
  async daemon(options, signal) {
    const { runDaemon } = await import('../src/gateway/daemon.ts');
    await runDaemon(options, signal);
  },
  async *logs(device) {
    const { readLog } = await import('../src/gateway/read-log.ts');
    yield* readLog(device);
  },
};
