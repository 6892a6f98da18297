/**
 * Owns: the frame of option haggling: one option out, reply headers in, and the caps that hold
 * before a byte of a reply's data is read or stored.
 * Runs in: server processes and the CLI (`info`), on the JS main thread.
 * Must not: know what a particular option means.
 */
import type { Session } from './session.ts';
import { textFromWire } from './text.ts';
import {
  IHAVEOPT,
  isErrorReply,
  MAXIMUM_INFO_BYTES,
  MAXIMUM_STRING_BYTES,
  OPTION_REPLY_MAGIC,
  optionName,
  REP_ACK,
  REP_INFO,
  REP_SERVER,
  replyName,
} from './wire.ts';

const REPLY_HEADER_BYTES = 20;

export interface ReplyHeader {
  readonly type: number;
  readonly lengthBytes: number;
}

/** The backend's "no" to one option; the handshake can go on after it. */
export interface Refusal {
  readonly option: number;
  readonly refusedWith: number;
  /** What the backend says about it, safe to show; may be empty. */
  readonly text: string;
}

export function isRefusal(answer: object): answer is Refusal {
  return 'refusedWith' in answer;
}

/** What the backend owes after `option`, for messages. */
export function answerTo(option: number): string {
  return `its answer to ${optionName(option)}`;
}

/** Header and data leave in one send. */
export async function sendOption(
  session: Session,
  option: number,
  data: Uint8Array = Buffer.alloc(0),
): Promise<void> {
  const frame = Buffer.alloc(16 + data.length);
  frame.writeBigUInt64BE(IHAVEOPT, 0);
  frame.writeUInt32BE(option, 8);
  frame.writeUInt32BE(data.length, 12);
  frame.set(data, 16);
  await session.send(frame, answerTo(option));
}

/** Longest data that a reply of this type may have. */
function maximumLength(type: number): number {
  if (type === REP_ACK) return 0;
  if (type === REP_INFO) return MAXIMUM_INFO_BYTES;
  if (type === REP_SERVER) return 4 + 2 * MAXIMUM_STRING_BYTES;
  return MAXIMUM_STRING_BYTES;
}

/** `dataType` is the one type, beside ACK and errors, that may answer `option`. */
export async function readReplyHeader(
  session: Session,
  option: number,
  dataType?: number,
): Promise<ReplyHeader> {
  const header = await session.receive(REPLY_HEADER_BYTES, answerTo(option));
  const magic = header.readBigUInt64BE(0);
  const echo = header.readUInt32BE(8);
  const type = header.readUInt32BE(12);
  const lengthBytes = header.readUInt32BE(16);
  if (magic !== OPTION_REPLY_MAGIC) {
    throw session.violation(`${answerTo(option)} begins with 0x${magic.toString(16)}`);
  }
  if (echo !== option) {
    throw session.violation(`${answerTo(option)} names ${optionName(echo)}`);
  }
  if (type !== REP_ACK && type !== dataType && !isErrorReply(type)) {
    throw session.violation(`${answerTo(option)} is ${replyName(type)}`);
  }
  if (lengthBytes > maximumLength(type)) {
    const what = `${replyName(type)} of ${lengthBytes} bytes`;
    throw session.violation(`${answerTo(option)} is ${what}, at most ${maximumLength(type)} fit`);
  }
  return { type, lengthBytes };
}

/** Reads the text of an error reply. */
export async function readRefusal(
  session: Session,
  option: number,
  header: ReplyHeader,
): Promise<Refusal> {
  const bytes = await session.receive(header.lengthBytes, answerTo(option));
  return { option, refusedWith: header.type, text: textFromWire(bytes, 200) };
}
