/**
 * Owns: the constants of the NBD handshake, named as in doc/proto.md of the NBD project, and our
 * limits on it.
 * Runs in: any process; constants only.
 * Must not: hold more of the transmission phase than a READ and the request that ends it need
 * (native/nbd/wire.h has the rest).
 */

/** `NBDMAGIC`: first word of every backend. */
export const NBD_MAGIC = 0x4e42444d41474943n;
/** `IHAVEOPT`: second word of a newstyle backend, first word of each option. */
export const IHAVEOPT = 0x49484156454f5054n;
/** Second word of an oldstyle backend. */
export const OLDSTYLE_MAGIC = 0x00420281861253n;
export const OPTION_REPLY_MAGIC = 0x3e889045565a9n;

export const FLAG_FIXED_NEWSTYLE = 1 << 0;
export const FLAG_NO_ZEROES = 1 << 1;

export const OPT_EXPORT_NAME = 1;
export const OPT_ABORT = 2;
export const OPT_LIST = 3;
export const OPT_INFO = 6;
export const OPT_GO = 7;
export const OPT_STRUCTURED_REPLY = 8;

export const REP_ACK = 1;
export const REP_SERVER = 2;
export const REP_INFO = 3;
/** Set in every error reply. */
export const REP_ERROR_BIT = 0x80000000;
export const REP_ERR_UNSUP = 0x80000001;
export const REP_ERR_POLICY = 0x80000002;
export const REP_ERR_INVALID = 0x80000003;
export const REP_ERR_PLATFORM = 0x80000004;
export const REP_ERR_TLS_REQD = 0x80000005;
export const REP_ERR_UNKNOWN = 0x80000006;
export const REP_ERR_SHUTDOWN = 0x80000007;
export const REP_ERR_BLOCK_SIZE_REQD = 0x80000008;
export const REP_ERR_TOO_BIG = 0x80000009;
export const REP_ERR_EXT_HEADER_REQD = 0x8000000a;

export const INFO_EXPORT = 0;
export const INFO_NAME = 1;
export const INFO_DESCRIPTION = 2;
export const INFO_BLOCK_SIZE = 3;

export const FLAG_HAS_FLAGS = 1 << 0;
export const FLAG_READ_ONLY = 1 << 1;
export const FLAG_SEND_FLUSH = 1 << 2;
export const FLAG_SEND_FUA = 1 << 3;
export const FLAG_ROTATIONAL = 1 << 4;
export const FLAG_SEND_TRIM = 1 << 5;
export const FLAG_SEND_WRITE_ZEROES = 1 << 6;
export const FLAG_CAN_MULTI_CONN = 1 << 8;
export const FLAG_SEND_FAST_ZERO = 1 << 11;

export const REQUEST_MAGIC = 0x25609513;
export const REQUEST_BYTES = 28;
export const CMD_READ = 0;
export const CMD_DISC = 2;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const SIMPLE_REPLY_BYTES = 16;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;
/** Head of a structured reply's chunk. */
export const CHUNK_BYTES = 20;
export const FLAG_REPLY_DONE = 1 << 0;
export const REPLY_TYPE_NONE = 0;
export const REPLY_TYPE_OFFSET_DATA = 1;
export const REPLY_TYPE_OFFSET_HOLE = 2;

/** Payload size without a limit (NBD_INFO_BLOCK_SIZE). */
export const UNLIMITED_PAYLOAD = 0xffffffff;

/**
 * What holds when a backend names no block sizes ("Size constraints": maximum interoperability).
 */
export const DEFAULT_BLOCK_BYTES = { minimum: 512, preferred: 4096, maximum: 32 << 20 } as const;

/** Longest string of the protocol, bytes. */
export const MAXIMUM_STRING_BYTES = 4096;
/** Largest NBD_REP_INFO that is read at all; one of an unknown type is dropped, never stored. */
export const MAXIMUM_INFO_BYTES = 64 << 10;
export const MAXIMUM_INFO_REPLIES = 64;
export const MAXIMUM_LIST_ENTRIES = 10_000;
/** Everything that a backend may send in one handshake. */
export const MAXIMUM_HANDSHAKE_BYTES = 1 << 20;

const OPTION_NAMES: Readonly<Record<number, string>> = {
  [OPT_EXPORT_NAME]: 'NBD_OPT_EXPORT_NAME',
  [OPT_ABORT]: 'NBD_OPT_ABORT',
  [OPT_LIST]: 'NBD_OPT_LIST',
  [OPT_INFO]: 'NBD_OPT_INFO',
  [OPT_GO]: 'NBD_OPT_GO',
  [OPT_STRUCTURED_REPLY]: 'NBD_OPT_STRUCTURED_REPLY',
};

const REPLY_NAMES: Readonly<Record<number, string>> = {
  [REP_ACK]: 'NBD_REP_ACK',
  [REP_SERVER]: 'NBD_REP_SERVER',
  [REP_INFO]: 'NBD_REP_INFO',
  [REP_ERR_UNSUP]: 'NBD_REP_ERR_UNSUP',
  [REP_ERR_POLICY]: 'NBD_REP_ERR_POLICY',
  [REP_ERR_INVALID]: 'NBD_REP_ERR_INVALID',
  [REP_ERR_PLATFORM]: 'NBD_REP_ERR_PLATFORM',
  [REP_ERR_TLS_REQD]: 'NBD_REP_ERR_TLS_REQD',
  [REP_ERR_UNKNOWN]: 'NBD_REP_ERR_UNKNOWN',
  [REP_ERR_SHUTDOWN]: 'NBD_REP_ERR_SHUTDOWN',
  [REP_ERR_BLOCK_SIZE_REQD]: 'NBD_REP_ERR_BLOCK_SIZE_REQD',
  [REP_ERR_TOO_BIG]: 'NBD_REP_ERR_TOO_BIG',
  [REP_ERR_EXT_HEADER_REQD]: 'NBD_REP_ERR_EXT_HEADER_REQD',
};

export function optionName(option: number): string {
  return OPTION_NAMES[option] ?? `option ${option}`;
}

export function replyName(type: number): string {
  return REPLY_NAMES[type] ?? `reply type 0x${type.toString(16)}`;
}

export function isErrorReply(type: number): boolean {
  return type >= REP_ERROR_BIT;
}
