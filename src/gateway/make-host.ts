/**
 * Owns: the world of a controller as it really is: driver, registry, /dev, processes, log.
 * Runs in: the controller and `connect --foreground`.
 * Must not: decide anything.
 */
import assert from 'node:assert/strict';
import { Arrivals } from './arrivals.ts';
import { driverControl } from './control.ts';
import { Controller } from './controller.ts';
import { driverIds } from './device-id.ts';
import { deviceNodes } from './device-node.ts';
import { awsEnvironment, processorCount } from './environment.ts';
import { EventHub } from './events.ts';
import type { Host } from './host.ts';
import { launchServerProcess } from './launch.ts';
import { launchReady } from './launch-for-device.ts';
import { log } from './log.ts';
import { Operations } from './operations.ts';
import { identify } from './process.ts';
import { Registry } from './registry.ts';
import { devicesDir } from './run-dir.ts';
import { NO_SPARES, SpareKeeper } from './spare.ts';
import { PACKAGE_VERSION } from './version.ts';

export interface Assembled {
  readonly host: Host;
  readonly operations: Operations;
  readonly controller: Controller;
}

export interface AssembleOptions {
  readonly foreground: boolean;
  readonly socketPath: string;
  readonly idleExitMs: number | undefined;
}

/** Everything that owns devices, on a socket that does not listen yet. */
export function assemble({ foreground, socketPath, idleExitMs }: AssembleOptions): Assembled {
  const self = identify(process.pid);
  assert(self !== undefined, 'this process is in /proc');
  const arrivals = new Arrivals();
  const events = new EventHub();
  const host: Host = {
    control: driverControl,
    registry: new Registry(devicesDir()),
    nodes: deviceNodes,
    launch: (request) => launchServerProcess(request, foreground ? awsEnvironment() : {}),
    arrivals,
    spares: foreground
      ? NO_SPARES
      : new SpareKeeper(
          () => launchReady(host, true),
          () => operations.liveDevices() > 0,
        ),
    owner: { ...self, foreground },
    socketPath,
    processors: processorCount(),
    devices: new Map(),
    driverIds,
    nowMs: Date.now,
    tell: (kind, device, text) => events.publish(kind, device, text),
    subscribe: (listener) => events.subscribe(listener),
    log,
  };
  const operations = new Operations(host, PACKAGE_VERSION);
  return { host, operations, controller: new Controller(host, arrivals, operations, idleExitMs) };
}
