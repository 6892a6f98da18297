/**
 * Owns: the options that we send, each as one function: its data, its replies, its caps.
 * Runs in: server processes and the CLI (`info`), on the JS main thread.
 * Must not: choose what to ask next (handshake.ts does), or hold a connection open after a
 * farewell.
 */
import { type ExportFacts, readInfo } from './info.ts';
import {
  answerTo,
  isRefusal,
  type Refusal,
  readRefusal,
  readReplyHeader,
  sendOption,
} from './replies.ts';
import type { Session } from './session.ts';
import { textFromWire } from './text.ts';
import * as wire from './wire.ts';

/** An entry of NBD_OPT_LIST; both texts are safe to show. */
export interface NbdListEntry {
  readonly name: string;
  readonly description?: string;
}

/** How long a farewell may take. */
const FAREWELL_MS = 1000;

/** NBD_OPT_STRUCTURED_REPLY: true, or the backend's refusal. */
export async function askStructuredReplies(session: Session): Promise<true | Refusal> {
  const option = wire.OPT_STRUCTURED_REPLY;
  await sendOption(session, option);
  const header = await readReplyHeader(session, option);
  return wire.isErrorReply(header.type) ? readRefusal(session, option, header) : true;
}

/**
 * NBD_OPT_GO or NBD_OPT_INFO. After a GO that was not refused the connection is in the transmission
 * phase.
 */
export async function askExport(
  session: Session,
  option: typeof wire.OPT_GO | typeof wire.OPT_INFO,
  exportName: string,
): Promise<ExportFacts | Refusal> {
  await sendOption(session, option, exportRequest(exportName));
  const facts: ExportFacts = {};
  for (let replies = 0; replies <= wire.MAXIMUM_INFO_REPLIES; replies += 1) {
    const header = await readReplyHeader(session, option, wire.REP_INFO);
    if (header.type === wire.REP_ACK) return facts;
    if (header.type !== wire.REP_INFO) return readRefusal(session, option, header);
    await readInfo(session, header.lengthBytes, answerTo(option), facts);
  }
  throw session.violation(`it sends more than ${wire.MAXIMUM_INFO_REPLIES} times NBD_REP_INFO`);
}

/** Name, and the three kinds of information that we ask for. */
function exportRequest(exportName: string): Buffer {
  const name = Buffer.from(exportName, 'utf8');
  const kinds = [wire.INFO_BLOCK_SIZE, wire.INFO_NAME, wire.INFO_DESCRIPTION];
  const data = Buffer.alloc(4 + name.length + 2 + 2 * kinds.length);
  let at = data.writeUInt32BE(name.length, 0);
  at += name.copy(data, at);
  at = data.writeUInt16BE(kinds.length, at);
  for (const kind of kinds) at = data.writeUInt16BE(kind, at);
  return data;
}

/** NBD_OPT_EXPORT_NAME: has no error replies; a backend that refuses hangs up. */
export async function chooseExportByName(
  session: Session,
  exportName: string,
  noZeroes: boolean,
): Promise<ExportFacts> {
  const option = wire.OPT_EXPORT_NAME;
  await sendOption(session, option, Buffer.from(exportName, 'utf8'));
  const reply = await session.receive(10, answerTo(option));
  if (!noZeroes) await session.discard(124, answerTo(option));
  return { sizeBytes: reply.readBigUInt64BE(0), transmissionFlags: reply.readUInt16BE(8) };
}

/** NBD_OPT_LIST: what the backend shows to this client, which need not be everything it has. */
export async function askList(session: Session): Promise<readonly NbdListEntry[] | Refusal> {
  const option = wire.OPT_LIST;
  await sendOption(session, option);
  const entries: NbdListEntry[] = [];
  while (entries.length <= wire.MAXIMUM_LIST_ENTRIES) {
    const header = await readReplyHeader(session, option, wire.REP_SERVER);
    if (header.type === wire.REP_ACK) return entries;
    if (header.type !== wire.REP_SERVER) return readRefusal(session, option, header);
    entries.push(await readListEntry(session, header.lengthBytes));
  }
  throw session.violation(`it lists more than ${wire.MAXIMUM_LIST_ENTRIES} exports`);
}

async function readListEntry(session: Session, lengthBytes: number): Promise<NbdListEntry> {
  const awaited = answerTo(wire.OPT_LIST);
  if (lengthBytes < 4) {
    throw session.violation(`it sends NBD_REP_SERVER of ${lengthBytes} bytes, 4 is the least`);
  }
  const nameBytes = (await session.receive(4, awaited)).readUInt32BE();
  const descriptionBytes = lengthBytes - 4 - nameBytes;
  if (
    nameBytes > wire.MAXIMUM_STRING_BYTES ||
    descriptionBytes < 0 ||
    descriptionBytes > wire.MAXIMUM_STRING_BYTES
  ) {
    throw session.violation(
      `it lists an export with a name of ${nameBytes} bytes in a reply of ${lengthBytes}`,
    );
  }
  const name = textFromWire(await session.receive(nameBytes, awaited));
  if (descriptionBytes === 0) return { name };
  return { name, description: textFromWire(await session.receive(descriptionBytes, awaited)) };
}

/**
 * The list if the backend gives one. Used while an error is explained, so no failure of its own
 * shows.
 */
export async function listIfAllowed(
  session: Session,
): Promise<readonly NbdListEntry[] | undefined> {
  try {
    const answer = await askList(session);
    return isRefusal(answer) ? undefined : answer;
  } catch {
    return undefined;
  }
}

/**
 * Soft disconnect during haggling: NBD_OPT_ABORT, then its answer or the end of the stream, then
 * close.
 */
export async function sayAbort(session: Session): Promise<void> {
  session.shortenDeadline(FAREWELL_MS);
  try {
    await sendOption(session, wire.OPT_ABORT);
    await readReplyHeader(session, wire.OPT_ABORT);
  } catch {
    // Nothing more is wanted of this backend, whatever it answers.
  }
  session.close();
}

/** Soft disconnect after the handshake: NBD_CMD_DISC, then the end of the stream, then close. */
export async function sayDisconnect(session: Session): Promise<void> {
  session.shortenDeadline(FAREWELL_MS);
  const request = Buffer.alloc(wire.REQUEST_BYTES);
  request.writeUInt32BE(wire.REQUEST_MAGIC, 0);
  request.writeUInt16BE(wire.CMD_DISC, 6);
  try {
    await session.send(request, 'the end of the connection');
    await session.receive(1, 'the end of the connection');
  } catch {
    // The end of the stream is the answer; a close before it could discard the request.
  }
  session.close();
}
