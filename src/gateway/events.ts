/**
 * Owns: what happens to devices, as events: into the log and to whoever has subscribed.
 * Runs in: the controller and `connect --foreground`.
 * Must not: wait for a subscriber, or keep events without a bound for one that does not read.
 */
import { type LogLevel, log } from './log.ts';
import { DEVICE_EVENT, type DeviceEvent, type DeviceEventKind } from './messages.ts';
import type { RequestContext } from './rpc.ts';

/** Some thousand events; a subscriber that is further behind misses some, and is told. */
const BACKLOG_BYTES = 256 * 1024;

const LEVELS = {
  connected: 'info',
  adopted: 'info',
  lost: 'warning',
  holding: 'warning',
  replayed: 'info',
  grown: 'warning',
  resized: 'info',
  failing: 'error',
  recovering: 'warning',
  reissued: 'info',
  upgraded: 'info',
  fatal: 'error',
  dead: 'error',
  disconnected: 'info',
} as const satisfies Record<DeviceEventKind, LogLevel>;

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

/** Passes events on as long as what was sent before has been read. */
export function boundedListener(
  send: (event: DeviceEvent) => void,
  unsentBytes: () => number,
): EventListener {
  let missed = 0;
  return (event) => {
    if (unsentBytes() > BACKLOG_BYTES) {
      missed += 1;
      return;
    }
    send(missed === 0 ? event : { ...event, missed });
    missed = 0;
  };
}

/** Answers an `events` request, which ends when the asker cancels it. */
export function followEvents(
  subscribe: (listener: EventListener) => () => void,
  { peer, signal }: RequestContext,
): Promise<null> {
  return new Promise((resolve) => {
    const send = (event: DeviceEvent): void => peer.event(DEVICE_EVENT, event);
    const stop = subscribe(boundedListener(send, () => peer.unsentBytes));
    signal.addEventListener('abort', () => {
      stop();
      resolve(null);
    });
  });
}
