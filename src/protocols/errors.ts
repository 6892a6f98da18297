/**
 * Owns: GatewayError, the one error type that people see, and the list of its codes.
 * Runs in: any process.
 * Must not: carry a secret, a stack for the user, or more than one line of message.
 */

/** Code to exit status of the CLI; documented in ublk-nbd(8), stable. */
export const EXIT_STATUS = {
  UNBD_USAGE: 2,
  UNBD_TARGET_MALFORMED: 2,
  UNBD_NO_PERMISSION: 3,
  UNBD_NO_DRIVER: 4,
  UNBD_IO_URING_DISABLED: 4,
  UNBD_KERNEL_TOO_OLD: 4,
  UNBD_NO_DEVICE_NODE: 4,
  UNBD_CONTROL_FAILED: 4,
  UNBD_BACKEND_UNKNOWN_HOST: 5,
  UNBD_BACKEND_UNREACHABLE: 5,
  UNBD_BACKEND_TIMEOUT: 5,
  UNBD_BACKEND_CLOSED: 5,
  UNBD_BACKEND_IO: 5,
  UNBD_BACKEND_PROTOCOL: 6,
  UNBD_BACKEND_OLDSTYLE: 6,
  UNBD_BACKEND_TLS_REQUIRED: 6,
  UNBD_EXPORT_UNKNOWN: 7,
  UNBD_EXPORT_REFUSED: 7,
  UNBD_EXPORT_UNUSABLE: 7,
  UNBD_OBJECT_CHANGED: 7,
  UNBD_DEVICE_EXISTS: 8,
  UNBD_DEVICE_BUSY: 9,
  UNBD_DEVICE_ABSENT: 10,
  UNBD_CONTROLLER: 11,
  UNBD_SERVER_PROCESS: 11,
  UNBD_VERSION: 11,
  UNBD_MOUNT_FAILED: 12,
  UNBD_DATA_LOST: 13,
  UNBD_INTERRUPTED: 130,
  UNBD_INTERNAL: 70,
} as const;

export type ErrorCode = keyof typeof EXIT_STATUS;

export interface GatewayErrorOptions {
  /** What mends it: a command or a sentence, one line. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/** An error with a stable code, one line of cause, and one line of cure. */
export class GatewayError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: GatewayErrorOptions = {}) {
    super(oneLine(message), options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'GatewayError';
    this.code = code;
    this.hint = options.hint === undefined ? undefined : oneLine(options.hint);
  }

  /** `message; hint [CODE]`, the line that people see. */
  get line(): string {
    return `${this.message}${this.hint === undefined ? '' : `; ${this.hint}`} [${this.code}]`;
  }
}

/**
 * Text from outside, made safe for one line of a log: no control characters, at most `limit`
 * characters.
 */
export function oneLine(text: string, limit = 1000): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the characters to remove
  const clean = text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ').trim();
  return clean.length <= limit ? clean : `${clean.slice(0, limit - 1)}…`;
}

/**
 * Any thrown value as a GatewayError; what is not one becomes UNBD_INTERNAL and keeps its cause.
 */
export function asGatewayError(error: unknown): GatewayError {
  if (error instanceof GatewayError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new GatewayError('UNBD_INTERNAL', message, { cause: error });
}
