/**
 * Owns: what a scripted backend is: its settings, its image, its counters, and the handshake of a
 * correct backend with those settings.
 * Runs in: test processes.
 * Must not: misbehave; misbehaviour lives in the tables of faults.
 */
import type { Peer } from './scripted-nbd-peer.ts';
import {
  FLAG,
  HANDSHAKE_FLAG,
  INFO,
  infoBlockSize,
  infoExport,
  infoText,
  listEntry,
  MAGIC,
  OPT,
  optionReply,
  REP,
  u16,
  u64,
} from './scripted-nbd-wire.ts';

export interface BackendSettings {
  readonly sizeBytes: bigint;
  readonly transmissionFlags: number;
  readonly blockBytes: readonly [minimum: number, preferred: number, maximum: number] | undefined;
  readonly exports: readonly { readonly name: string; readonly description?: string }[];
  readonly description: string | undefined;
  /** Beside FIXED_NEWSTYLE and NO_ZEROES, which have their own settings. */
  readonly extraHandshakeFlags: number;
  readonly fixedNewstyle: boolean;
  readonly noZeroes: boolean;
  readonly structuredReplies: boolean;
  readonly knowsGo: boolean;
  readonly knowsInfo: boolean;
  readonly knowsList: boolean;
}

export const ALL_FLAGS =
  FLAG.hasFlags |
  FLAG.flush |
  FLAG.fua |
  FLAG.trim |
  FLAG.writeZeroes |
  FLAG.fastZero |
  FLAG.multiConn;

export const DEFAULT_SETTINGS: BackendSettings = {
  sizeBytes: 4n << 20n,
  transmissionFlags: ALL_FLAGS,
  blockBytes: [1, 4096, 32 << 20],
  exports: [{ name: '' }, { name: 'disk', description: 'the disk' }],
  description: undefined,
  extraHandshakeFlags: 0,
  fixedNewstyle: true,
  noZeroes: true,
  structuredReplies: true,
  knowsGo: true,
  knowsInfo: true,
  knowsList: true,
};

/** What clients made a backend do; a request is counted when it has been carried out. */
export interface Counters {
  connections: number;
  /** Times that NBD_OPT_STRUCTURED_REPLY came, but while a fault plays the handshake itself. */
  structuredReplies: number;
  reads: number;
  readBytes: number;
  writes: number;
  writeBytes: number;
  flushes: number;
  /** Requests of any kind with NBD_CMD_FLAG_FUA. */
  fua: number;
  trims: number;
  writeZeroes: number;
  disconnects: number;
  /** Times that a fault was played. */
  faults: number;
}

export function newCounters(): Counters {
  return {
    connections: 0,
    structuredReplies: 0,
    reads: 0,
    readBytes: 0,
    writes: 0,
    writeBytes: 0,
    flushes: 0,
    fua: 0,
    trims: 0,
    writeZeroes: 0,
    disconnects: 0,
    faults: 0,
  };
}

/** An image in which every eight bytes hold their own offset, so that a wrong offset shows. */
export function patternImage(sizeBytes: bigint): Buffer {
  const image = Buffer.alloc(Number(sizeBytes));
  for (let at = 0; at + 8 <= image.length; at += 8) {
    image.writeUInt32BE(Math.floor(at / 2 ** 32), at);
    image.writeUInt32BE(at % 2 ** 32, at + 4);
  }
  return image;
}

/** How a handshake ended: in the transmission phase, or with a client that left. */
export type Entered = { readonly structured: boolean } | undefined;

export interface ClientOption {
  readonly option: number;
  readonly data: Buffer;
}

export async function sendGreeting(peer: Peer, settings: BackendSettings): Promise<void> {
  const flags =
    (settings.fixedNewstyle ? HANDSHAKE_FLAG.fixedNewstyle : 0) |
    (settings.noZeroes ? HANDSHAKE_FLAG.noZeroes : 0) |
    settings.extraHandshakeFlags;
  await peer.write(u64(MAGIC.nbd), u64(MAGIC.newstyle), u16(flags));
}

/** The client's flags; one that we did not offer ends the connection, as the protocol demands. */
export async function readClientFlags(peer: Peer, settings: BackendSettings): Promise<boolean> {
  const flags = (await peer.read(4)).readUInt32BE();
  const offered = (settings.fixedNewstyle ? 1 : 0) | (settings.noZeroes ? 2 : 0);
  if ((flags & ~offered) !== 0) throw new Error(`client flags ${flags} were not offered`);
  return (flags & HANDSHAKE_FLAG.noZeroes) !== 0;
}

export async function readOption(peer: Peer): Promise<ClientOption> {
  const header = await peer.read(16);
  if (header.readBigUInt64BE(0) !== MAGIC.newstyle) throw new Error('an option without IHAVEOPT');
  return { option: header.readUInt32BE(8), data: await peer.read(header.readUInt32BE(12)) };
}

/** The name in the data of OPT_GO and OPT_INFO, and the kinds of information asked for. */
export function parseGo(data: Buffer): {
  readonly name: string;
  readonly kinds: readonly number[];
} {
  const nameBytes = data.readUInt32BE(0);
  const count = data.readUInt16BE(4 + nameBytes);
  if (data.length !== 6 + nameBytes + 2 * count) throw new Error('OPT_GO of a wrong length');
  const kinds = Array.from({ length: count }, (_, n) => data.readUInt16BE(6 + nameBytes + 2 * n));
  return { name: data.toString('utf8', 4, 4 + nameBytes), kinds };
}

export function goReplies(settings: BackendSettings, { option, data }: ClientOption): Buffer {
  const { name, kinds } = parseGo(data);
  const parts = [
    optionReply(option, REP.info, infoExport(settings.sizeBytes, settings.transmissionFlags)),
  ];
  if (kinds.includes(INFO.blockSize) && settings.blockBytes !== undefined) {
    parts.push(optionReply(option, REP.info, infoBlockSize(...settings.blockBytes)));
  }
  if (kinds.includes(INFO.name)) {
    parts.push(optionReply(option, REP.info, infoText(INFO.name, name)));
  }
  if (kinds.includes(INFO.description) && settings.description !== undefined) {
    parts.push(optionReply(option, REP.info, infoText(INFO.description, settings.description)));
  }
  return Buffer.concat([...parts, optionReply(option, REP.ack)]);
}

/**
 * Plays a correct handshake. A fault may take an option over: `takeOver` returns undefined to let
 * the correct answer be given, or how the handshake ended; `structured`: such replies were agreed
 * on by then.
 */
export async function playHandshake(
  peer: Peer,
  settings: BackendSettings,
  takeOver: (
    asked: ClientOption,
    structured: boolean,
  ) => Promise<Entered | 'answered' | undefined> = async () => undefined,
): Promise<Entered> {
  await sendGreeting(peer, settings);
  const noZeroes = await readClientFlags(peer, settings);
  let structured = false;
  for (;;) {
    const asked = await readOption(peer);
    const taken = await takeOver(asked, structured);
    if (taken === 'answered') continue;
    if (taken !== undefined) return taken;
    const { option, data } = asked;
    const known = (name: string) => settings.exports.some((entry) => entry.name === name);
    if (option === OPT.abort) {
      await peer.write(optionReply(option, REP.ack));
      return undefined;
    }
    if (option === OPT.exportName) {
      if (!known(data.toString())) return undefined;
      const reply = [u64(settings.sizeBytes), u16(settings.transmissionFlags)];
      await peer.write(...reply, Buffer.alloc(noZeroes ? 0 : 124));
      return { structured };
    }
    if (option === OPT.list && settings.knowsList) {
      const entries = settings.exports.map(({ name, description }) =>
        optionReply(option, REP.server, listEntry(name, description)),
      );
      await peer.write(...entries, optionReply(option, REP.ack));
    } else if (option === OPT.structuredReply && settings.structuredReplies) {
      structured = true;
      await peer.write(optionReply(option, REP.ack));
    } else if (
      (option === OPT.go && settings.knowsGo) ||
      (option === OPT.info && settings.knowsInfo)
    ) {
      const { name } = parseGo(data);
      if (!known(name)) {
        await peer.write(optionReply(option, REP.unknown, 'no such export here'));
        continue;
      }
      await peer.write(goReplies(settings, asked));
      if (option === OPT.go) return { structured };
    } else {
      await peer.write(optionReply(option, REP.unsup));
    }
  }
}
