/**
 * Owns: the nouns that every protocol shares: Target (what the user named), Endpoint (where to
 * dial), ByteStream (what a handshake speaks over), BackendInfo (what a backend says it can do),
 * and Source (where the store of a remote object reads from).
 * Runs in: any process; types only.
 * Must not: import the addon or the gateway, or know one protocol's wire format.
 */

/** Where a stream backend listens. A unix path that begins with NUL is an abstract socket. */
export type Endpoint =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'vsock'; readonly cid: number; readonly port: number };

/**
 * What the user asked to attach. `text` is the canonical form for messages and lists; it never
 * holds a secret.
 */
export type Target =
  | {
      readonly kind: 'nbd';
      readonly endpoint: Endpoint;
      readonly exportName: string;
      readonly text: string;
    }
  | { readonly kind: 'null'; readonly sizeBytes: bigint; readonly text: string }
  | { readonly kind: 'memory'; readonly sizeBytes: bigint; readonly text: string }
  | { readonly kind: 'file'; readonly path: string; readonly text: string }
  /** `url` as the user gave it, without user name, password and fragment; `text` has no query. */
  | { readonly kind: 'http'; readonly url: string; readonly text: string }
  | {
      readonly kind: 's3';
      readonly bucket: string;
      /** As S3 has it, nothing encoded. */
      readonly key: string;
      /** The version that was named; undefined: the current one. */
      readonly versionId?: string;
      readonly text: string;
    };

/** An object of which a device is made by ranges: it has an ObjectIdentity, a store and a cache. */
export type ObjectTarget = Extract<Target, { readonly kind: 'http' | 's3' }>;

/**
 * A connected stream, as the handshake uses it. It reads nothing that was not asked for, so that
 * it can be handed to a queue afterwards. Every call rejects with a GatewayError
 * (UNBD_BACKEND_CLOSED, UNBD_BACKEND_TIMEOUT, UNBD_BACKEND_IO) and is bounded by the stream's own
 * deadline.
 */
export interface ByteStream {
  /** The address in use, for messages: `127.0.0.1:10809`, `unix:/run/x.sock`, `vsock:2:10809`. */
  readonly peer: string;
  send(bytes: Uint8Array): Promise<void>;
  /** Exactly `lengthBytes` bytes (1 to 1 MiB). */
  recv(lengthBytes: number): Promise<Buffer>;
  /** Moves the deadline of all further calls: `timeoutMs` from now. */
  setDeadline(timeoutMs: number): void;
  /** At once; a close of a stream that is closed does nothing. */
  close(): void;
}

/**
 * Makes a connected stream to `endpoint`, trying every address that a name has, within
 * `timeoutMs` in total.
 */
export type Dial = (endpoint: Endpoint, timeoutMs: number) => Promise<ByteStream>;

/** What a backend offers, in the words of the block layer. */
export interface BackendInfo {
  /** Exact size in bytes, > 0, <= 2^63 - 1. */
  readonly sizeBytes: bigint;
  readonly readOnly: boolean;
  readonly canFlush: boolean;
  readonly canFua: boolean;
  readonly canTrim: boolean;
  readonly canWriteZeroes: boolean;
  readonly canFastZero: boolean;
  /** Several connections see one coherent image (NBD_FLAG_CAN_MULTI_CONN). */
  readonly canMultiConn: boolean;
  readonly rotational: boolean;
  /** Smallest request and its alignment, bytes, power of two, 1 to 64 KiB. */
  readonly minimumBlockBytes: number;
  /** Best request size, bytes, power of two, >= 512. */
  readonly preferredBlockBytes: number;
  /** Largest payload of one request, bytes; 0xffffffff = no limit. */
  readonly maximumBlockBytes: number;
}

/** What tells one version of a remote object from another; it goes to the registry. */
export interface ObjectIdentity {
  readonly sizeBytes: bigint;
  /** A strong ETag with its quotes (RFC 9110, 8.8.3); empty where there is none. */
  readonly etag: string;
  /** Last-Modified as the origin wrote it (RFC 9110, 8.8.2); empty where there is none. */
  readonly lastModified: string;
  /** The version of an object in S3, where its bucket keeps versions: it never changes. */
  readonly versionId?: string;
}

/** What was asked of an origin by this process, and how soon it answered. */
export interface SourceTraffic {
  /** Requests that were sent, every attempt and redirect counted. */
  readonly requests: number;
  /**
   * From the sending of a request to the first byte of its body, ms: of so many requests (above 0
   * to 1) no longer than this. Undefined where no body has begun yet.
   */
  firstByteMs(quantile: number): number | undefined;
}

/** Where the bytes of a read go: memory, or several pieces of memory that are one to the reader. */
export interface Place {
  /** Bytes. */
  readonly length: number;
  /** Puts `bytes` there, from so many bytes of the place on; all of them lie within it. */
  set(bytes: Uint8Array, atBytes: number): void;
  /** What of it lies behind so many bytes, at least one. */
  subarray(fromBytes: number): Place;
}

/** One contiguous range to read. */
export interface SourceRead {
  /** From the start of the object, 0 to 2^53 - 1. */
  readonly offsetBytes: number;
  /** As many bytes as are wanted, 1 to 16 MiB; the range lies within the object. */
  readonly into: Place;
  /** Somebody waits for it; false: it is read ahead. */
  readonly urgent: boolean;
  /** While it is not urgent: after all that is read ahead. */
  readonly background?: boolean;
  readonly signal: AbortSignal;
  /** So many bytes from the start of `into` are there and right; grows with each call. */
  landed(bytes: number): void;
}

/** The whole object. */
export interface WholeRead {
  readonly signal: AbortSignal;
  /** The next bytes, from so many of the object on; only until it returns. */
  piece(bytes: Uint8Array, atBytes: number): void;
}

/**
 * A remote object of which ranges can be read. Sources compose by wrapping: one that tries again
 * takes another and is one.
 */
export interface Source {
  readonly info: BackendInfo;
  readonly identity: ObjectIdentity;
  /** Undefined where nobody counts. */
  readonly traffic?: SourceTraffic;
  /**
   * Resolves when all of `into` has landed. Rejects with a SourceError, soon after an abort too;
   * what had landed before is right all the same, and nothing is written to `into` after that.
   */
  read(read: SourceRead): Promise<void>;
  /**
   * Where the origin sends no ranges, and whoever opened it takes that: all of the object in order.
   * Resolves after its last byte was given to `piece`, whose throwing ends it; rejects with a
   * SourceError. Each read of a range transfers all that lies before it.
   */
  readWhole?(read: WholeRead): Promise<void>;
  /** Ends connections; reads that are under way reject. */
  close(): Promise<void>;
}
