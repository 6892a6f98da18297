/**
 * Owns: NBD_REP_INFO: its parts off the stream, and what they make of the export.
 * Runs in: server processes and the CLI (`info`), on the JS main thread.
 * Must not: trust a length, an order or a combination; when a part comes twice the last one counts,
 * and all rules are checked together at the end.
 */
import type { BackendInfo } from '../adapter.ts';
import { GatewayError } from '../errors.ts';
import { MAXIMUM_SIZE_BYTES } from '../geometry.ts';
import type { Session } from './session.ts';
import { quoted, textFromWire } from './text.ts';
import * as wire from './wire.ts';

/** One export as a backend described it. */
export interface NbdExport {
  readonly info: BackendInfo;
  /** They were asked for, and the backend has them. */
  readonly structuredReplies: boolean;
  /** The backend's own name of the export, safe to show; only if it told one. */
  readonly name?: string;
  readonly description?: string;
  /** As they came, unknown bits included. */
  readonly transmissionFlags: number;
}

/** What has been told so far. */
export interface ExportFacts {
  sizeBytes?: bigint;
  transmissionFlags?: number;
  blockBytes?: { minimum: number; preferred: number; maximum: number };
  name?: string;
  description?: string;
}

/** Takes one NBD_REP_INFO of `lengthBytes` bytes off the stream into `facts`. */
export async function readInfo(
  session: Session,
  lengthBytes: number,
  awaited: string,
  facts: ExportFacts,
): Promise<void> {
  if (lengthBytes < 2) {
    throw session.violation(`it sends NBD_REP_INFO of ${lengthBytes} bytes, 2 is the least`);
  }
  const kind = (await session.receive(2, awaited)).readUInt16BE();
  const restBytes = lengthBytes - 2;
  if (kind === wire.INFO_EXPORT) {
    const rest = await readExactly(session, 'NBD_INFO_EXPORT', 12, restBytes, awaited);
    facts.sizeBytes = rest.readBigUInt64BE(0);
    facts.transmissionFlags = rest.readUInt16BE(8);
  } else if (kind === wire.INFO_BLOCK_SIZE) {
    const rest = await readExactly(session, 'NBD_INFO_BLOCK_SIZE', 14, restBytes, awaited);
    facts.blockBytes = {
      minimum: rest.readUInt32BE(0),
      preferred: rest.readUInt32BE(4),
      maximum: rest.readUInt32BE(8),
    };
  } else if (kind === wire.INFO_NAME) {
    facts.name = await readText(session, 'name', restBytes, awaited);
  } else if (kind === wire.INFO_DESCRIPTION) {
    facts.description = await readText(session, 'description', restBytes, awaited);
  } else {
    await session.discard(restBytes, awaited);
  }
}

async function readExactly(
  session: Session,
  what: string,
  totalBytes: number,
  restBytes: number,
  awaited: string,
): Promise<Buffer> {
  if (restBytes !== totalBytes - 2) {
    throw session.violation(`it sends ${what} of ${restBytes + 2} bytes instead of ${totalBytes}`);
  }
  return session.receive(restBytes, awaited);
}

async function readText(
  session: Session,
  what: string,
  lengthBytes: number,
  awaited: string,
): Promise<string> {
  if (lengthBytes > wire.MAXIMUM_STRING_BYTES) {
    throw session.violation(`its export's ${what} is ${lengthBytes} bytes long, 4096 is the most`);
  }
  return textFromWire(await session.receive(lengthBytes, awaited));
}

/**
 * Checks everything that was told, together. Throws UNBD_BACKEND_PROTOCOL or UNBD_EXPORT_UNUSABLE.
 */
export function exportFromFacts(
  session: Session,
  exportName: string,
  facts: ExportFacts,
  structuredReplies: boolean,
): NbdExport {
  const { sizeBytes, transmissionFlags } = facts;
  if (sizeBytes === undefined || transmissionFlags === undefined) {
    throw session.violation('it acknowledges the export without NBD_INFO_EXPORT');
  }
  if ((transmissionFlags & wire.FLAG_HAS_FLAGS) === 0) {
    throw session.violation('its transmission flags lack NBD_FLAG_HAS_FLAGS');
  }
  checkSize(session, exportName, sizeBytes);
  const blocks = facts.blockBytes ?? wire.DEFAULT_BLOCK_BYTES;
  checkBlockSizes(session, blocks);
  return {
    info: backendInfo(sizeBytes, transmissionFlags, blocks),
    structuredReplies,
    transmissionFlags,
    ...(facts.name === undefined ? {} : { name: facts.name }),
    ...(facts.description === undefined ? {} : { description: facts.description }),
  };
}

function checkSize(session: Session, exportName: string, sizeBytes: bigint): void {
  if (sizeBytes > 0n && sizeBytes <= MAXIMUM_SIZE_BYTES) return;
  const reason = sizeBytes === 0n ? 'its size is 0' : `its size, ${sizeBytes}, is over 2^63 - 1`;
  throw new GatewayError(
    'UNBD_EXPORT_UNUSABLE',
    `export ${quoted(exportName)} of backend ${session.peer} cannot be a device: ${reason}`,
    { hint: 'check the image at the backend' },
  );
}

type BlockBytes = Readonly<Required<ExportFacts>['blockBytes']>;

/** The rules of "Size constraints" in doc/proto.md. */
function checkBlockSizes(session: Session, { minimum, preferred, maximum }: BlockBytes): void {
  const broken = (what: string) => session.violation(`its block sizes are not valid: ${what}`);
  if (!isPowerOfTwo(minimum) || minimum > 65536) throw broken(`minimum ${minimum}`);
  if (!isPowerOfTwo(preferred) || preferred < Math.max(512, minimum)) {
    throw broken(`preferred ${preferred}, minimum ${minimum}`);
  }
  if (maximum < preferred) throw broken(`maximum ${maximum}, preferred ${preferred}`);
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}

function backendInfo(sizeBytes: bigint, flags: number, blocks: BlockBytes): BackendInfo {
  const has = (flag: number) => (flags & flag) !== 0;
  // Pieces of a split request stay aligned when the largest one is a multiple of the smallest.
  const step = Math.max(512, blocks.minimum);
  const unlimited = blocks.maximum === wire.UNLIMITED_PAYLOAD;
  return {
    sizeBytes,
    readOnly: has(wire.FLAG_READ_ONLY),
    canFlush: has(wire.FLAG_SEND_FLUSH),
    canFua: has(wire.FLAG_SEND_FUA),
    canTrim: has(wire.FLAG_SEND_TRIM),
    canWriteZeroes: has(wire.FLAG_SEND_WRITE_ZEROES),
    canFastZero: has(wire.FLAG_SEND_WRITE_ZEROES) && has(wire.FLAG_SEND_FAST_ZERO),
    canMultiConn: has(wire.FLAG_CAN_MULTI_CONN),
    rotational: has(wire.FLAG_ROTATIONAL),
    minimumBlockBytes: blocks.minimum,
    preferredBlockBytes: blocks.preferred,
    maximumBlockBytes: unlimited ? blocks.maximum : blocks.maximum - (blocks.maximum % step),
  };
}
