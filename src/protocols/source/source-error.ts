/**
 * Owns: SourceError: why a range could not be read, and whether it is worth asking again.
 * Runs in: any process; pure.
 * Must not: carry a secret: no query of a URL, no header.
 */
import { type ErrorCode, GatewayError, type GatewayErrorOptions } from '../errors.ts';

export interface SourceErrorOptions extends GatewayErrorOptions {
  /** The origin asked for so long a pause (Retry-After, RFC 9110, 10.2.3), ms. */
  readonly retryAfterMs?: number;
  /** The origin has too much to do (429, 503): fewer requests at once may help. */
  readonly isOverload?: boolean;
}

/**
 * UNBD_OBJECT_CHANGED is final: the object is another one now. After every other code the same
 * range may be asked for again.
 */
export class SourceError extends GatewayError {
  readonly retryAfterMs: number | undefined;
  readonly isOverload: boolean;

  constructor(code: ErrorCode, message: string, options: SourceErrorOptions = {}) {
    super(code, message, options);
    this.name = 'SourceError';
    this.retryAfterMs = options.retryAfterMs;
    this.isOverload = options.isOverload === true;
  }

  get isFinal(): boolean {
    return this.code === 'UNBD_OBJECT_CHANGED';
  }
}
