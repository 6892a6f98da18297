/**
 * Owns: the controller's requests: connect, disconnect, upgrade, list, over its own devices and
 * those of other owners.
 * Runs in: the controller; in `connect --foreground` over the one device that it has.
 * Must not: touch a device whose owner lives; it asks the owner.
 */
import { asGatewayError, GatewayError } from '../protocols/errors.ts';
import { adoptOrphans, adoptRecord } from './adopt.ts';
import { callOver, openPeer } from './client.ts';
import { connectDevice } from './connect.ts';
import { Device, isServed, viewOf } from './device.ts';
import { parseDevice } from './device-name.ts';
import { endDevice } from './disconnect.ts';
import type { Host } from './host.ts';
import { buryDevice } from './lost.ts';
import type { ConnectOptions, ControllerApi, DeviceUpgrade, DeviceView } from './messages.ts';
import { isAlive } from './process.ts';
import { recoverByHand } from './recover.ts';
import { type DeviceRecord, isRecord } from './registry.ts';
import type { RequestContext } from './rpc.ts';
import { foregroundSocket } from './run-dir.ts';
import type { ServerHello } from './server-messages.ts';
import { upgradeDevice } from './upgrade.ts';

export class Operations {
  readonly #host: Host;
  readonly #version: string;
  #refreshing: Promise<void> | undefined;

  constructor(host: Host, version: string) {
    this.#host = host;
    this.#version = version;
  }

  ping(): ControllerApi['ping']['answer'] {
    return { version: this.#version, pid: process.pid };
  }

  /** Something is being done to a device. */
  get isBusy(): boolean {
    return [...this.#host.devices.values()].some((device) => device.isBusy);
  }

  /** Devices with a server process; what is DEAD waits in the registry and needs no controller. */
  liveDevices(): number {
    return [...this.#host.devices.values()].filter((device) => device.state !== 'DEAD').length;
  }

  async connect(
    options: ConnectOptions,
    context: Pick<RequestContext, 'signal' | 'progress'>,
  ): Promise<DeviceView> {
    if (this.#host.owner.foreground && this.#host.devices.size > 0) {
      throw new GatewayError('UNBD_USAGE', 'a foreground process has one device');
    }
    await this.refresh();
    const device = await connectDevice(this.#host, options, context);
    this.#host.tell('connected', device.id, `to ${options.target.text}`);
    return device.view(false);
  }

  /** An abort of `signal` takes the device back, as long as that can be. */
  async disconnect(
    argument: ControllerApi['disconnect']['argument'],
    signal?: AbortSignal,
  ): Promise<{ id: number }> {
    const device = await this.#find(argument.device);
    if (!(device instanceof Device)) return this.#forwardDisconnect(device, argument, signal);
    const { id } = device;
    if (device.state === 'CONNECTING') {
      throw new GatewayError('UNBD_DEVICE_BUSY', `ublkb${id} is being connected`, {
        hint: 'interrupt that command',
      });
    }
    const { force, drainTimeoutMs } = argument;
    await endDevice(this.#host, device, { force, drainTimeoutMs, signal });
    return { id };
  }

  async recover(name: string): Promise<DeviceView> {
    const device = await this.#find(name);
    if (!(device instanceof Device)) throw ownedBy(device, 'which recovers it itself');
    await device.exclusive(() => recoverByHand(this.#host, device));
    const { state, id, record } = device;
    // The successor serves; how it stands with the backend is another matter.
    if (['CONNECTED', 'HOLDING', 'FAILING'].includes(state)) return device.view(false);
    const text = `ublkb${id} is ${state}${record.reason === undefined ? '' : `: ${record.reason}`}`;
    const hint = `mend that and try again, or run: ublk-nbd disconnect --force ${id}`;
    throw new GatewayError('UNBD_SERVER_PROCESS', text, { hint });
  }

  async upgrade(name: string): Promise<DeviceUpgrade> {
    const device = await this.#find(name);
    if (!(device instanceof Device)) {
      throw ownedBy(device, 'its own controller, which cannot be replaced while it lives');
    }
    return device.exclusive(() => upgradeDevice(this.#host, device, this.#version));
  }

  /** A device of ours, or the record of one whose owner is another process. */
  async #find(name: string): Promise<Device | DeviceRecord> {
    const reference = parseDevice(name);
    await this.refresh();
    const isMeant = ({ id, options }: DeviceRecord): boolean =>
      'id' in reference ? id === reference.id : options.name === reference.name;
    const device = [...this.#host.devices.values()].find((one) => isMeant(one.record));
    const found = device ?? this.#foreignRecords().find(isMeant);
    if (found !== undefined) return found;
    throw new GatewayError('UNBD_DEVICE_ABSENT', `there is no device ${name} of ublk-nbd`, {
      hint: 'see: ublk-nbd list',
    });
  }

  async list(verbose: boolean): Promise<readonly DeviceView[]> {
    await this.refresh();
    const own = [...this.#host.devices.values()].map((device) => this.#ownView(device, verbose));
    const others = this.#foreignRecords().map((record) => this.#foreignView(record, verbose));
    const views = await Promise.all([...own, ...others]);
    return views.toSorted((a, b) => a.id - b.id);
  }

  /** Takes over devices whose owner is gone. A foreground process has its own device only. */
  refresh(): Promise<void> {
    if (this.#host.owner.foreground) return Promise.resolve();
    this.#refreshing ??= adoptOrphans(this.#host).finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  /**
   * The device of a server process that says hello again; undefined when it serves none. `foreign`:
   * its owner lives and is somebody else.
   */
  async adoptFrom(
    token: string,
    record: ServerHello['record'],
  ): Promise<Device | 'foreign' | undefined> {
    await this.refresh();
    const known = [...this.#host.devices.values()].find((one) => one.record.token === token);
    if (known !== undefined) return known;
    if (this.#foreignRecords().some((one) => one.token === token)) return 'foreign';
    // The registry lost it (a corrupt record), the server process has a copy.
    const mayAdopt = isRecord(record) && record.token === token && !this.#host.owner.foreground;
    if (!mayAdopt || !this.#host.registry.claim(record)) return undefined;
    return adoptRecord(this.#host, record);
  }

  /** Devices of `connect --foreground` processes; such a process itself knows its own only. */
  #foreignRecords(): readonly DeviceRecord[] {
    if (this.#host.owner.foreground) return [];
    const { records } = this.#host.registry.readAll();
    return records.filter((record) => !this.#host.devices.has(record.id));
  }

  async #ownView(device: Device, verbose: boolean): Promise<DeviceView> {
    try {
      // A recovery or a drain finds out by itself, and may take its time.
      if (isServed(device.state)) await device.exclusive(() => this.#checkAgainstDriver(device));
    } catch (error) {
      const { line } = asGatewayError(error);
      this.#host.log('warning', device.id, `the driver could not be asked: ${line}`);
    }
    return device.view(verbose);
  }

  /** Another program may have deleted it. */
  async #checkAgainstDriver(device: Device): Promise<void> {
    if (!isServed(device.state)) return;
    const info = await this.#host.control.info(device.id);
    // QUIESCED: its server process has ended a moment ago.
    if (info !== undefined && info.state !== 'DEAD') return;
    await buryDevice(this.#host, device, 'another program took the device away');
  }

  async #foreignView(record: DeviceRecord, verbose: boolean): Promise<DeviceView> {
    const peer = await openPeer(foregroundSocket(record.owner.pid)).catch(() => undefined);
    try {
      const views = peer === undefined ? [] : await callOver(peer)('list', { verbose });
      const view = views.find((one) => one.id === record.id);
      if (view !== undefined) return view;
    } catch {
      // Its owner is ending; the record tells what is known.
    } finally {
      peer?.close();
    }
    return viewOf(record, record.phase === 'live' ? 'CONNECTED' : 'CONNECTING', undefined);
  }

  async #forwardDisconnect(
    record: DeviceRecord,
    { force, drainTimeoutMs }: ControllerApi['disconnect']['argument'],
    signal: AbortSignal | undefined,
  ): Promise<{ id: number }> {
    const { id, owner } = record;
    const peer = await openPeer(foregroundSocket(owner.pid));
    if (peer === undefined || !isAlive(owner)) {
      peer?.close();
      throw ownedBy(record, 'which does not answer');
    }
    try {
      // How long it takes the owner knows.
      await peer.request('disconnect', { device: String(id), force, drainTimeoutMs }, { signal });
      return { id };
    } catch (error) {
      throw asGatewayError(error);
    } finally {
      peer.close();
    }
  }
}

function ownedBy({ id, owner }: DeviceRecord, what: string): GatewayError {
  const text = `ublkb${id} belongs to process ${owner.pid}, ${what}`;
  return new GatewayError('UNBD_DEVICE_BUSY', text, { hint: `end it: kill ${owner.pid}` });
}
