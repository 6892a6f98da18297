/**
 * Owns: what the life cycle of a device needs from the world, so that tests can give it another
 * one.
 * Runs in: the controller and `connect --foreground`; types only.
 * Must not: hold state of its own.
 */
import type { Control } from './control.ts';
import type { Device } from './device.ts';
import type { DeviceNodes } from './device-node.ts';
import type { EventListener } from './events.ts';
import type { Launch } from './launch.ts';
import type { LogLevel } from './log.ts';
import type { DeviceEventKind } from './messages.ts';
import type { ProcessIdentity } from './process.ts';
import type { Registry } from './registry.ts';
import type { Peer } from './rpc.ts';
import type { Spares } from './spare.ts';

/** Server processes that were launched and have not said hello yet, by token. */
export interface Arrivals {
  /** Resolves with the connection of the server process that was launched with this token. */
  expect(token: string): Promise<Peer>;
  forget(token: string): void;
}

export interface Host {
  readonly control: Control;
  readonly registry: Registry;
  readonly nodes: DeviceNodes;
  readonly launch: Launch;
  readonly arrivals: Arrivals;
  readonly spares: Spares;
  /** This process, as the registry names the owner of a device. */
  readonly owner: ProcessIdentity & { readonly foreground: boolean };
  readonly socketPath: string;
  readonly processors: number;
  /** Every device that this process owns, by id. */
  readonly devices: Map<number, Device>;
  /** Ids that the driver has, ours or not. */
  driverIds(): ReadonlySet<number>;
  nowMs(): number;
  /** An event of a device: to the log and to subscribers. */
  tell(kind: DeviceEventKind, device: number, text: string): void;
  /** Returns what ends the subscription. */
  subscribe(listener: EventListener): () => void;
  log(level: LogLevel, device: number | undefined, message: string): void;
}
