/**
 * Owns: what a fault of the handshake is, and the few shapes that most of them have.
 * Runs in: test processes.
 * Must not: hold a fault; the tables do.
 */
import type { BackendSettings, ClientOption, Entered } from './scripted-nbd-backend.ts';
import { playHandshake } from './scripted-nbd-backend.ts';
import type { Peer } from './scripted-nbd-peer.ts';
import { OPT, optionReply, REP, type ReplyFields } from './scripted-nbd-wire.ts';

/** What the user of the client sees. */
export interface Expected {
  /** `works`: the device comes up. */
  readonly code: string;
  readonly text?: RegExp;
}

export interface HandshakeFault {
  readonly name: string;
  readonly expected: Expected;
  readonly settings?: Partial<BackendSettings>;
  /** It is in the answer to NBD_OPT_STRUCTURED_REPLY: who does not ask for them works. */
  readonly hitsStructuredReplies?: boolean;
  /** Plays the whole handshake; without it a correct one is played with the settings. */
  readonly play?: (peer: Peer, settings: BackendSettings) => Promise<Entered>;
}

export const WORKS: Expected = { code: 'works' };
export const violation = (text: RegExp): Expected => ({ code: 'UNBD_BACKEND_PROTOCOL', text });
export const closed = (text: RegExp): Expected => ({ code: 'UNBD_BACKEND_CLOSED', text });
export const late = (text: RegExp): Expected => ({ code: 'UNBD_BACKEND_TIMEOUT', text });
export const unusable = (text: RegExp): Expected => ({ code: 'UNBD_EXPORT_UNUSABLE', text });
export const refused = (text: RegExp): Expected => ({ code: 'UNBD_EXPORT_REFUSED', text });

/** Sends bytes instead of a greeting, then waits for the client to leave. */
export function greets(
  name: string,
  bytes: Uint8Array | string,
  expected: Expected,
): HandshakeFault {
  const play = async (peer: Peer) => {
    await peer.write(Buffer.from(bytes as string));
    await peer.drain();
    return undefined;
  };
  return { name, expected, play };
}

/** Answers the first `option` its own way; `then` says what the connection does afterwards. */
export function answers(
  name: string,
  option: number,
  expected: Expected,
  reply: (asked: ClientOption, settings: BackendSettings) => Uint8Array,
  then: 'goes on' | 'waits' | 'hangs up' | 'enters' = 'goes on',
): HandshakeFault {
  const play = (peer: Peer, settings: BackendSettings) => {
    let done = false;
    return playHandshake(peer, settings, async (asked, structured) => {
      if (done || asked.option !== option) return undefined;
      done = true;
      await peer.write(reply(asked, settings));
      if (then === 'waits') await peer.drain();
      if (then === 'hangs up') peer.close();
      if (then === 'hangs up') await peer.drain();
      return then === 'enters' ? { structured } : 'answered';
    });
  };
  return { name, expected, play, hitsStructuredReplies: option === OPT.structuredReply };
}

/** Answers OPT_GO with these NBD_REP_INFO and an ACK. */
export function informs(
  name: string,
  expected: Expected,
  ...infos: readonly Buffer[]
): HandshakeFault {
  const reply = ({ option }: ClientOption) =>
    Buffer.concat([
      ...infos.map((info) => optionReply(option, REP.info, info)),
      optionReply(option, REP.ack),
    ]);
  return answers(name, OPT.go, expected, reply, 'enters');
}

export function refuses(
  name: string,
  option: number,
  type: number,
  expected: Expected,
  text = '',
  fields: ReplyFields = {},
): HandshakeFault {
  return answers(name, option, expected, (asked) => optionReply(asked.option, type, text, fields));
}

/** A correct handshake with unusual settings. */
export function set(
  name: string,
  expected: Expected,
  settings: Partial<BackendSettings>,
): HandshakeFault {
  return { name, expected, settings };
}
