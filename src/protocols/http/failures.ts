/**
 * Owns: what a status of HTTP and what an error of the network mean, as a SourceError.
 * Runs in: any process; pure, but for the time of day (Retry-After).
 * Must not: show a query, a header, or text that an origin wrote: it may repeat either.
 */
import type { ErrorCode } from '../errors.ts';
import { SourceError, type SourceErrorOptions } from '../source/source-error.ts';
import { type Answer, header, wrongAnswer } from './answer.ts';

/** An answer that says no. */
export class StatusError extends SourceError {
  readonly status: number;

  constructor(status: number, code: ErrorCode, message: string, options: SourceErrorOptions) {
    super(code, message, options);
    this.status = status;
  }
}

const OVERLOADED = new Set([429, 503]);

/** The refusal that a status is; `subject` names what was asked for. */
export function statusError(answer: Answer, subject: string): SourceError {
  const { status } = answer;
  const refusal = (code: ErrorCode, why: string, options: SourceErrorOptions) =>
    new StatusError(status, code, `${subject} answers ${status}: ${why}`, options);
  if (status === 401 || status === 403) {
    const hint = 'check the signature of the address, or give credentials with --header-file';
    return refusal('UNBD_EXPORT_REFUSED', 'it may not be read', { hint });
  }
  if (status === 404 || status === 410) {
    const why = status === 404 ? 'it does not exist' : 'it exists no more';
    return refusal('UNBD_EXPORT_UNKNOWN', why, { hint: 'check the address' });
  }
  if (status >= 500 || status === 429 || status === 408) {
    const isOverload = OVERLOADED.has(status);
    const retryAfterMs = retryAfter(header(answer, 'retry-after'));
    return refusal('UNBD_BACKEND_IO', isOverload ? 'it has too much to do' : 'it failed', {
      hint: 'try again later, or see the log of the origin',
      isOverload,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    });
  }
  if (status >= 400) {
    const hint = 'check the address and --header-file';
    return refusal('UNBD_EXPORT_REFUSED', 'the request was refused', { hint });
  }
  return wrongAnswer(subject, `its status is ${status}`);
}

/** Retry-After (RFC 9110, 10.2.3): seconds or a date, as milliseconds from `now`. */
export function retryAfter(text: string | undefined, now = Date.now()): number | undefined {
  const value = text?.trim() ?? '';
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1000;
  const date = /^[A-Z].* GMT$/i.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}

/** What the network did to a request. */
export interface Trouble {
  readonly subject: string;
  readonly host: string;
  readonly timeoutMs: number;
  /** The request was on its way: the connection stood. */
  readonly isSent: boolean;
  readonly receivedBytes: number;
  /** The head said no, and the text of why was not there to its end. */
  readonly isRefusing: boolean;
  readonly cause: unknown;
}

export function timeoutError(trouble: Omit<Trouble, 'cause'>, cause?: unknown): SourceError {
  const { subject, host, timeoutMs } = trouble;
  const silence = trouble.isRefusing
    ? `${subject} did not say within ${timeoutMs} ms why it refuses`
    : `${subject} sent nothing for ${timeoutMs} ms`;
  return new SourceError(
    'UNBD_BACKEND_TIMEOUT',
    trouble.isSent ? silence : `${subject}: ${host} took no connection within ${timeoutMs} ms`,
    { hint: 'check the origin and the network', cause },
  );
}

/** OpenSSL's words for a certificate that is not trusted (X509_V_ERR_*), as Node writes them. */
const CERTIFICATE =
  /CERT|CRL|ISSUER|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|HOSTNAME_MISMATCH|INVALID_(CA|PURPOSE)/;

export function networkError(trouble: Trouble): SourceError {
  const { subject, host, isSent, receivedBytes, cause } = trouble;
  if (cause instanceof SourceError) return cause;
  const code = codeOf(cause);
  const failure = (kind: ErrorCode, why: string, hint: string) =>
    new SourceError(kind, `${subject}: ${why}`, { hint, cause });
  const check = 'check the origin and the network';
  if (code === 'ETIMEDOUT' || code === 'UND_ERR_CONNECT_TIMEOUT') {
    return timeoutError(trouble, cause);
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN' || code === 'EAI_NONAME') {
    return failure('UNBD_BACKEND_UNKNOWN_HOST', `the host ${host} is not known`, 'check the name');
  }
  if (CERTIFICATE.test(code) && !code.startsWith('ERR_SSL_')) {
    const why = `the certificate of ${host} is not trusted (${code})`;
    return failure('UNBD_EXPORT_REFUSED', why, 'name its CA with --ca-file, or check the name');
  }
  if (code === 'EPROTO' || /^ERR_(SSL|TLS)_/.test(code)) {
    const why = `no TLS connection with ${host} (${code})`;
    return failure('UNBD_BACKEND_PROTOCOL', why, 'check the port, and https:// or http://');
  }
  if (/^HPE_|^UND_ERR_HEADERS_OVERFLOW/.test(code) && code !== 'HPE_INVALID_EOF_STATE') {
    return failure('UNBD_BACKEND_PROTOCOL', `it does not speak HTTP (${code})`, check);
  }
  if (!isSent) {
    return failure('UNBD_BACKEND_UNREACHABLE', `${host} cannot be reached (${code})`, check);
  }
  const why = `the connection ended after ${receivedBytes} bytes of the answer (${code})`;
  return failure('UNBD_BACKEND_CLOSED', why, check);
}

/** A connection that the origin ended, as against an answer that makes no sense. */
export function isReset(cause: unknown): boolean {
  return ['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET'].includes(codeOf(cause));
}

function codeOf(cause: unknown): string {
  const { code, name, message } = cause as { code?: unknown; name?: unknown; message?: unknown };
  if (typeof code === 'string') return code;
  // undici 7 loses the codes of its parser; the parser's own words stay.
  if (name !== 'HTTPParserError') return 'no reason';
  return /\(Invalid EOF/.test(String(message)) ? 'HPE_INVALID_EOF_STATE' : 'HPE_INVALID';
}
