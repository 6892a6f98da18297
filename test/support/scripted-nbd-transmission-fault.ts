/**
 * Owns: what a fault of the transmission phase is, and the two shapes that most of them have.
 * Runs in: test processes.
 * Must not: hold a fault; the tables do.
 */
import {
  type Connection,
  correctReply,
  type Misbehaviour,
  type Request,
} from './scripted-nbd-transmission.ts';
import type { NBD_ERROR } from './scripted-nbd-wire.ts';

/**
 * What comes of the request that was hit:
 * - `ok`: it succeeds with the right data; the connection lives on.
 * - an errno: it fails with this error, no other request suffers, the connection lives on.
 * - `violation`: the client closes the connection and blames the backend by name.
 * - `lost`: the connection ends without a violation.
 * - `stalls`: nothing comes any more; only the client's own deadline ends it.
 */
export type Outcome = 'ok' | keyof typeof NBD_ERROR | 'violation' | 'lost' | 'stalls';

export interface TransmissionFault {
  readonly name: string;
  /** The style of replies in which it is played. */
  readonly replies: 'structured' | 'simple';
  /** The request that it hits; `enter`: none, it is played when the phase begins. */
  readonly command: 'enter' | 'read' | 'write' | 'flush' | 'trim' | 'writeZeroes';
  /** More than one where the protocol leaves a choice. */
  readonly outcomes: readonly Outcome[];
  readonly play: Misbehaviour;
  readonly takesPayload?: boolean;
}

export type Frames = (request: Request, connection: Connection) => Uint8Array;

/** A fault that answers with frames of its own instead of the reply. */
export function sends(
  name: string,
  replies: TransmissionFault['replies'],
  command: TransmissionFault['command'],
  outcome: Outcome,
  frames: Frames,
): TransmissionFault {
  const play: Misbehaviour = async (connection, request) => {
    await connection.peer.write(frames(request, connection));
    return true;
  };
  return { name, replies, command, outcomes: [outcome], play };
}

/** Sends `part` of the correct reply, then closes or falls silent. */
export function breaksOff(
  name: string,
  replies: TransmissionFault['replies'],
  outcome: 'lost' | 'stalls',
  part: (reply: Buffer) => Buffer,
): TransmissionFault {
  const play: Misbehaviour = async (connection, request) => {
    await connection.peer.write(part(correctReply(connection, request)));
    if (outcome === 'lost') connection.peer.close();
    else await connection.peer.drain();
    return true;
  };
  return { name, replies, command: 'read', outcomes: [outcome], play };
}
