/**
 * Owns: the order of an NBD handshake, from the greeting to the transmission phase or to a polite
 * end.
 * Runs in: server processes and the CLI (`info`), on the JS main thread.
 * Must not: leave a stream open that it does not hand back: every failure closes it.
 *
 *   greeting ─► client flags ─► (STRUCTURED_REPLY) ─► GO ─► transmission
 *                     │                               └─ unsupported ─► EXPORT_NAME ─► transmission
 *                     └─ not fixed newstyle ─────────────────────────────┘
 */
import type { ByteStream } from '../adapter.ts';
import { asGatewayError, GatewayError } from '../errors.ts';
import { type Greeting, readGreeting, sendClientFlags } from './greeting.ts';
import { type ExportFacts, exportFromFacts, type NbdExport } from './info.ts';
import * as options from './options.ts';
import { isFinal, refusalError, unknownExport } from './refusals.ts';
import { isRefusal, type Refusal } from './replies.ts';
import { Session } from './session.ts';
import * as wire from './wire.ts';

export type { NbdExport } from './info.ts';
export type { NbdListEntry } from './options.ts';

/** Limit of a whole handshake unless the caller has one. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;

export interface HandshakeOptions {
  /** Empty: the backend's default export. */
  readonly exportName: string;
  /** Limit of the whole handshake, not of one step. */
  readonly timeoutMs?: number;
}

export interface NegotiateOptions extends HandshakeOptions {
  /** Ask for them; a backend that has none is served with simple ones all the same. */
  readonly structuredReplies?: boolean | undefined;
}

/** An export as `info` shows it. */
export interface NbdExportDetails extends NbdExport {
  /** What the backend lists; absent if it does not. */
  readonly exports?: readonly options.NbdListEntry[];
}

/**
 * Takes a fresh stream into the transmission phase of `exportName`. Afterwards nothing of it is
 * buffered here. On failure the stream is closed, politely where the protocol still allows it.
 */
export function negotiate(
  stream: ByteStream,
  {
    exportName,
    timeoutMs = HANDSHAKE_TIMEOUT_MS,
    structuredReplies: areWanted = false,
  }: NegotiateOptions,
): Promise<NbdExport> {
  return closingOnError(new Session(stream, timeoutMs), async (session) => {
    const greeting = await greet(session);
    if (!greeting.fixedNewstyle) return enterByName(session, exportName, greeting, false);
    const structuredReplies = areWanted && (await agreeOnStructuredReplies(session, exportName));
    const answer = await options.askExport(session, wire.OPT_GO, exportName);
    if (!isRefusal(answer)) return entered(session, exportName, answer, structuredReplies);
    if (answer.refusedWith === wire.REP_ERR_UNSUP) {
      return enterByName(session, exportName, greeting, structuredReplies);
    }
    throw await explain(session, exportName, answer);
  });
}

/**
 * What an export is, without using it, and whether there are structured replies. The stream is
 * closed in any case.
 */
export function exportInfo(
  stream: ByteStream,
  { exportName, timeoutMs = HANDSHAKE_TIMEOUT_MS }: HandshakeOptions,
): Promise<NbdExportDetails> {
  return closingOnError(new Session(stream, timeoutMs), async (session) => {
    const greeting = await greet(session);
    if (!greeting.fixedNewstyle) {
      const found = await enterByName(session, exportName, greeting, false);
      await options.sayDisconnect(session);
      return found;
    }
    const structuredReplies = await agreeOnStructuredReplies(session, exportName);
    const listed = await options.askList(session);
    const exports = isRefusal(listed) ? {} : { exports: listed };
    const answer = await options.askExport(session, wire.OPT_INFO, exportName);
    if (!isRefusal(answer)) {
      const found = exportFromFacts(session, exportName, answer, structuredReplies);
      await options.sayAbort(session);
      return { ...found, ...exports };
    }
    if (answer.refusedWith !== wire.REP_ERR_UNSUP) {
      throw await explain(session, exportName, answer, exports.exports);
    }
    const found = await enterWithoutInfo(session, exportName, greeting, structuredReplies);
    await options.sayDisconnect(session);
    return { ...found, ...exports };
  });
}

/** The exports that a backend shows. The stream is closed in any case. */
export function listExports(
  stream: ByteStream,
  { timeoutMs = HANDSHAKE_TIMEOUT_MS }: { readonly timeoutMs?: number } = {},
): Promise<readonly options.NbdListEntry[]> {
  return closingOnError(new Session(stream, timeoutMs), async (session) => {
    const greeting = await greet(session);
    if (!greeting.fixedNewstyle) throw notListed(session, '');
    const answer = await options.askList(session);
    await options.sayAbort(session);
    if (!isRefusal(answer)) return answer;
    if (isFinal(answer)) throw refusalError(session.peer, '', answer, undefined);
    throw notListed(session, answer.text);
  });
}

function notListed(session: Session, text: string): GatewayError {
  const says = text === '' ? '' : ` (it says: ${text})`;
  const message = `backend ${session.peer} does not list its exports${says}`;
  return new GatewayError('UNBD_EXPORT_REFUSED', message, { hint: 'look at its configuration' });
}

async function closingOnError<T>(
  session: Session,
  run: (session: Session) => Promise<T>,
): Promise<T> {
  try {
    return await run(session);
  } catch (error) {
    session.close();
    throw asGatewayError(error);
  }
}

async function greet(session: Session): Promise<Greeting> {
  const greeting = await readGreeting(session);
  await sendClientFlags(session, greeting);
  return greeting;
}

/** False: the backend has none. */
async function agreeOnStructuredReplies(session: Session, exportName: string): Promise<boolean> {
  const answer = await options.askStructuredReplies(session);
  if (answer === true) return true;
  if (isFinal(answer)) throw await explain(session, exportName, answer);
  return false;
}

/**
 * For `info` at a backend without NBD_OPT_INFO: the export can only be looked at by entering it.
 */
async function enterWithoutInfo(
  session: Session,
  exportName: string,
  greeting: Greeting,
  structuredReplies: boolean,
): Promise<NbdExport> {
  const answer = await options.askExport(session, wire.OPT_GO, exportName);
  if (!isRefusal(answer)) return entered(session, exportName, answer, structuredReplies);
  if (answer.refusedWith !== wire.REP_ERR_UNSUP) throw await explain(session, exportName, answer);
  return enterByName(session, exportName, greeting, structuredReplies);
}

/**
 * NBD_OPT_EXPORT_NAME cannot say no but by hanging up, so the list is asked for before; an export
 * that is not in it is tried all the same, for backends hide some.
 */
async function enterByName(
  session: Session,
  exportName: string,
  greeting: Greeting,
  structuredReplies: boolean,
): Promise<NbdExport> {
  const listed = greeting.fixedNewstyle ? await options.askList(session) : undefined;
  const exports = listed === undefined || isRefusal(listed) ? undefined : listed;
  let facts: ExportFacts;
  try {
    facts = await options.chooseExportByName(session, exportName, greeting.noZeroes);
  } catch (error) {
    const cause = asGatewayError(error);
    if (cause.code !== 'UNBD_BACKEND_CLOSED') throw cause;
    throw unknownExport(session.peer, exportName, ' (it closed the connection)', exports);
  }
  return entered(session, exportName, facts, structuredReplies);
}

/**
 * The transmission phase has begun; an export that is of no use is left as it asks: with
 * NBD_CMD_DISC.
 */
async function entered(
  session: Session,
  exportName: string,
  facts: ExportFacts,
  structuredReplies: boolean,
): Promise<NbdExport> {
  try {
    return exportFromFacts(session, exportName, facts, structuredReplies);
  } catch (error) {
    const cause = asGatewayError(error);
    if (cause.code === 'UNBD_EXPORT_UNUSABLE') await options.sayDisconnect(session);
    throw cause;
  }
}

/**
 * The error for a refusal, after a polite end; an unknown export is answered with those that there
 * are.
 */
async function explain(
  session: Session,
  exportName: string,
  refusal: Refusal,
  known?: readonly options.NbdListEntry[],
): Promise<GatewayError> {
  const unknown = refusal.refusedWith === wire.REP_ERR_UNKNOWN;
  const exports = unknown ? (known ?? (await options.listIfAllowed(session))) : undefined;
  await options.sayAbort(session);
  return refusalError(session.peer, exportName, refusal, exports);
}
