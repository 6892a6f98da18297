/**
 * Owns: the first phase of the handshake: both magics, the handshake flags, and our answer to them.
 * Runs in: server processes and the CLI (`info`), on the JS main thread.
 * Must not: accept oldstyle; it has no export names, no errors and no block sizes.
 */
import { GatewayError } from '../errors.ts';
import { GREETING, type Session } from './session.ts';
import { quoted, textFromWire } from './text.ts';
import {
  FLAG_FIXED_NEWSTYLE,
  FLAG_NO_ZEROES,
  IHAVEOPT,
  NBD_MAGIC,
  OLDSTYLE_MAGIC,
} from './wire.ts';

export interface Greeting {
  /** False: the backend knows NBD_OPT_EXPORT_NAME and nothing else. */
  readonly fixedNewstyle: boolean;
  readonly noZeroes: boolean;
}

/** Reads the greeting; flags that we do not know are ignored, as the specification says. */
export async function readGreeting(session: Session): Promise<Greeting> {
  const first = await session.receive(8, GREETING);
  if (first.readBigUInt64BE() !== NBD_MAGIC) throw notNbd(session, first);
  const second = (await session.receive(8, GREETING)).readBigUInt64BE();
  if (second === OLDSTYLE_MAGIC) throw oldstyle(session);
  if (second !== IHAVEOPT) {
    throw session.violation(`the second word of its greeting is 0x${second.toString(16)}`);
  }
  const flags = (await session.receive(2, 'its handshake flags')).readUInt16BE();
  return {
    fixedNewstyle: (flags & FLAG_FIXED_NEWSTYLE) !== 0,
    noZeroes: (flags & FLAG_NO_ZEROES) !== 0,
  };
}

/** Answers with the flags that the backend has too; others would make it hang up. */
export async function sendClientFlags(session: Session, greeting: Greeting): Promise<void> {
  const flags = Buffer.alloc(4);
  flags.writeUInt32BE(
    (greeting.fixedNewstyle ? FLAG_FIXED_NEWSTYLE : 0) | (greeting.noZeroes ? FLAG_NO_ZEROES : 0),
  );
  await session.send(flags, 'its first answer');
}

function oldstyle(session: Session): GatewayError {
  return new GatewayError(
    'UNBD_BACKEND_OLDSTYLE',
    `backend ${session.peer} speaks only the oldstyle NBD handshake`,
    { hint: 'start it in newstyle: nbdkit without --oldstyle, nbd-server 3.10 or later' },
  );
}

/** Protocols that greet first, by their first bytes. */
const GREETERS: readonly (readonly [string, string])[] = [
  ['SSH-', 'SSH answers there'],
  ['HTTP/', 'HTTP answers there'],
  ['\x15\x03', 'TLS answers there'],
  ['220', 'a mail or FTP service answers there'],
];

function notNbd(session: Session, first: Buffer): GatewayError {
  const raw = first.toString('latin1');
  const known = GREETERS.find(([start]) => raw.startsWith(start))?.[1];
  const reason = known ?? `it greets with ${quoted(textFromWire(first))}`;
  return new GatewayError(
    'UNBD_BACKEND_PROTOCOL',
    `no NBD backend listens at ${session.peer}: ${reason}`,
    { hint: 'check host and port; 10809 is the usual port of NBD' },
  );
}
