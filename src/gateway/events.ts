/**
 * Owns: what happens to devices, as events: into the log and to whoever has subscribed.
 * Runs in: the controller and `connect --foreground`.
 * Must not: wait for a subscriber, or keep an event for one.
 */
import { type LogLevel, log } from './log.ts';

const LEVELS = {
  connected: 'info',
  adopted: 'info',
  lost: 'warning',
  holding: 'warning',
  replayed: 'info',
  failing: 'error',
  recovering: 'warning',
  reissued: 'info',
  upgraded: 'info',
  fatal: 'error',
  dead: 'error',
  disconnected: 'info',
} as const satisfies Record<string, LogLevel>;

export type DeviceEventKind = keyof typeof LEVELS;

export interface DeviceEvent {
  readonly atMs: number;
  /** N of /dev/ublkbN. */
  readonly device: number;
  readonly kind: DeviceEventKind;
  /** One line for people. */
  readonly text: string;
}

export type EventListener = (event: DeviceEvent) => void;

export class EventHub {
  readonly #listeners = new Set<EventListener>();

  publish(kind: DeviceEventKind, device: number, text: string): void {
    log(LEVELS[kind], device, `${kind}: ${text}`);
    const event: DeviceEvent = { atMs: Date.now(), device, kind, text };
    for (const listener of this.#listeners) listener(event);
  }

  /** Returns what ends the subscription. */
  subscribe(listener: EventListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
