/**
 * Owns: the scripted backend's own copy of the NBD constants, and the frames it sends.
 * Runs in: test processes.
 * Must not: import the product's constants; a wrong number there must fail here.
 */

export const MAGIC = {
  nbd: 0x4e42444d41474943n,
  newstyle: 0x49484156454f5054n,
  oldstyle: 0x00420281861253n,
  optionReply: 0x0003e889045565a9n,
  request: 0x25609513,
  simpleReply: 0x67446698,
  structuredReply: 0x668e33ef,
  extendedReply: 0x6e8a278c,
} as const;

export const HANDSHAKE_FLAG = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const OPT = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
} as const;

export const REP = {
  ack: 1,
  server: 2,
  info: 3,
  unsup: 0x80000001,
  policy: 0x80000002,
  invalid: 0x80000003,
  platform: 0x80000004,
  tlsRequired: 0x80000005,
  unknown: 0x80000006,
  shutdown: 0x80000007,
  blockSizeRequired: 0x80000008,
  tooBig: 0x80000009,
  extHeaderRequired: 0x8000000a,
} as const;

export const INFO = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const FLAG = {
  hasFlags: 1,
  readOnly: 2,
  flush: 4,
  fua: 8,
  rotational: 16,
  trim: 32,
  writeZeroes: 64,
  df: 128,
  multiConn: 256,
  fastZero: 2048,
} as const;

export const CMD = { read: 0, write: 1, disc: 2, flush: 3, trim: 4, writeZeroes: 6 } as const;
export const CMD_FLAG = { fua: 1, noHole: 2, fastZero: 16 } as const;
export const REPLY_DONE = 1;
export const CHUNK = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 0x8001,
  errorOffset: 0x8002,
} as const;
export const NBD_ERROR = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, value));
  return bytes;
}

export interface ReplyFields {
  readonly magic?: bigint;
  /** What the header says when it lies about the data. */
  readonly lengthBytes?: number;
}

export function optionReply(
  option: number,
  type: number,
  data: Uint8Array | string = '',
  fields: ReplyFields = {},
): Buffer {
  const body = Buffer.from(data as string);
  return Buffer.concat([
    u64(fields.magic ?? MAGIC.optionReply),
    u32(option),
    u32(type),
    u32(fields.lengthBytes ?? body.length),
    body,
  ]);
}

export function infoExport(sizeBytes: bigint, flags: number): Buffer {
  return Buffer.concat([u16(INFO.export), u64(sizeBytes), u16(flags)]);
}

export function infoBlockSize(minimum: number, preferred: number, maximum: number): Buffer {
  return Buffer.concat([u16(INFO.blockSize), u32(minimum), u32(preferred), u32(maximum)]);
}

export function infoText(kind: number, text: string): Buffer {
  return Buffer.concat([u16(kind), Buffer.from(text)]);
}

export function listEntry(name: string, description = ''): Buffer {
  const bytes = Buffer.from(name);
  return Buffer.concat([u32(bytes.length), bytes, Buffer.from(description)]);
}

export function simpleReply(cookie: bigint, error: number, data?: Uint8Array): Buffer {
  const header = Buffer.concat([u32(MAGIC.simpleReply), u32(error), u64(cookie)]);
  return data === undefined ? header : Buffer.concat([header, data]);
}

/** `lengthBytes` is what the header says when it lies about the payload. */
export function chunk(
  flags: number,
  type: number,
  cookie: bigint,
  payload: Uint8Array = Buffer.alloc(0),
  lengthBytes = payload.length,
): Buffer {
  return Buffer.concat([
    u32(MAGIC.structuredReply),
    u16(flags),
    u16(type),
    u64(cookie),
    u32(lengthBytes),
    payload,
  ]);
}

export function errorPayload(error: number, text = '', offset?: bigint): Buffer {
  const message = Buffer.from(text);
  const parts = [u32(error), u16(message.length), message];
  return Buffer.concat(offset === undefined ? parts : [...parts, u64(offset)]);
}
