/**
 * Owns: one handshake in memory: a script at one end, a client's ByteStream at the other.
 * Runs in: test processes.
 * Must not: decide what is right.
 */
import { type BackendSettings, DEFAULT_SETTINGS, playHandshake } from './scripted-nbd-backend.ts';
import type { HandshakeFault } from './scripted-nbd-faults.ts';
import { Peer, PeerGone } from './scripted-nbd-peer.ts';
import { duplexPair, TestStream } from './scripted-nbd-stream.ts';

export interface Pair {
  readonly stream: TestStream;
  /** Settles when the script has ended; rejects if the client broke the protocol. */
  readonly script: Promise<void>;
}

export interface PairOptions {
  readonly pieceBytes?: number;
  readonly settings?: Partial<BackendSettings>;
  /**
   * Plays after the handshake, in the transmission phase: takes one request (DISC) unless given.
   */
  readonly afterwards?: (peer: Peer) => Promise<void>;
}

/** Plays a fault, or a correct backend where none is given. */
export function playInMemory(fault: HandshakeFault | undefined, options: PairOptions = {}): Pair {
  const [near, far] = duplexPair();
  const peer = new Peer(far, options);
  const settings = { ...DEFAULT_SETTINGS, ...fault?.settings, ...options.settings };
  const play = fault?.play ?? playHandshake;
  const script = play(peer, settings)
    .then(async (entered) => {
      if (entered !== undefined) await (options.afterwards ?? takeDisconnect)(peer);
      peer.close();
    })
    .catch((error) => {
      if (!(error instanceof PeerGone)) throw error;
    });
  script.catch(() => undefined);
  return { stream: new TestStream(near), script };
}

async function takeDisconnect(peer: Peer): Promise<void> {
  await peer.read(28);
}
