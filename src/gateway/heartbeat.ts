/**
 * Owns: the look after every served device, now and then: does its server process answer?
 * Runs in: the controller and `connect --foreground`.
 * Must not: take its own standing still for somebody else's: it counts its beats, not the time.
 */
import { type Device, isServed } from './device.ts';
import type { Host } from './host.ts';
import type { ServerProcess } from './launch.ts';
import type { Peer } from './rpc.ts';

export const BEAT_MS = 2_500;
/** Ten seconds without an answer. */
const UNANSWERED_BEATS = 4;
/** One that lost its controller looks for the next every two seconds. */
const ABSENT_BEATS = 12;

interface Pulse {
  misses: number;
  /** Asked, and has not answered yet. */
  asked: Peer | undefined;
}

export class Heartbeat {
  readonly #host: Host;
  readonly #pulses = new WeakMap<ServerProcess, Pulse>();
  #timer: NodeJS.Timeout | undefined;

  constructor(host: Host) {
    this.#host = host;
  }

  start(): void {
    this.#timer = setInterval(() => this.beat(), BEAT_MS);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  beat(): void {
    this.#host.spares.balance();
    for (const device of this.#host.devices.values()) this.#look(device);
  }

  #look({ state, serverProcess, peer }: Device): void {
    if (!isServed(state) || serverProcess === undefined) return;
    const pulse = this.#pulses.get(serverProcess) ?? { misses: 0, asked: undefined };
    this.#pulses.set(serverProcess, pulse);
    const limit = peer === undefined ? ABSENT_BEATS : UNANSWERED_BEATS;
    if (pulse.misses >= limit) {
      serverProcess.kill(`did not answer for ${(limit * BEAT_MS) / 1000} s and was killed`);
      return;
    }
    pulse.misses += 1;
    if (peer !== undefined && pulse.asked !== peer) ask(peer, pulse);
  }
}

function ask(peer: Peer, pulse: Pulse): void {
  pulse.asked = peer;
  const onAnswer = (): void => {
    if (pulse.asked === peer) pulse.asked = undefined;
    // A refusal is an answer too; the end of the connection is none.
    if (!peer.isClosed) pulse.misses = 0;
  };
  peer.request('ping', null).then(onAnswer, onAnswer);
}
