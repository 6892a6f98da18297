/**
 * Owns: what the head of an HTTP answer must say before a byte of its body is used: that it is the
 * range that was asked for, of the object that was opened, as its bytes are stored.
 * Runs in: any process; pure.
 * Must not: know about connections or files.
 */
import type { ObjectIdentity } from '../adapter.ts';
import { oneLine } from '../errors.ts';
import { SourceError } from '../source/source-error.ts';

/** Names are in lower case; a header that came more than once is a list. */
export type AnswerHeaders = Readonly<Record<string, string | string[] | undefined>>;

export interface Answer {
  readonly status: number;
  readonly headers: AnswerHeaders;
  /** Of an answer that is heard out; see `Heard` in body.ts. */
  readonly body?: string;
}

/** `bytes 0-511/1024` (RFC 9110, 14.4), both ends included; the total is undefined for `*`. */
export interface ContentRange {
  readonly first: bigint;
  readonly last: bigint;
  readonly totalBytes: bigint | undefined;
}

/** A header in one piece; undefined where there is none. */
export function header(answer: Answer, name: string): string | undefined {
  const value = answer.headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}

export function wrongAnswer(subject: string, why: string, hint?: string): SourceError {
  return new SourceError(
    'UNBD_BACKEND_PROTOCOL',
    `${subject} gives a wrong answer: ${why}`,
    hint === undefined ? {} : { hint },
  );
}

function changed(subject: string, what: string, was: string, is: string): SourceError {
  const quote = (text: string) => oneLine(text, 100);
  return new SourceError(
    'UNBD_OBJECT_CHANGED',
    `${subject} is another object now: its ${what} was ${quote(was)} and is ${quote(is)}`,
    { hint: 'disconnect the device and connect it again' },
  );
}

/** Longest ETag that is kept; it goes to the registry of devices. */
const MAXIMUM_ETAG_LENGTH = 1024;

/**
 * The validators of an answer. A weak ETag (RFC 9110, 8.8.1) may stay as it is when bytes change:
 * it counts as none.
 */
export function validators(answer: Answer): { etag: string; lastModified: string } {
  const etag = header(answer, 'etag') ?? '';
  const isStrong = /^"[\x21\x23-\x7e\x80-\xff]*"$/.test(etag) && etag.length <= MAXIMUM_ETAG_LENGTH;
  const lastModified = oneLine(header(answer, 'last-modified') ?? '', 100);
  return { etag: isStrong ? etag : '', lastModified };
}

/**
 * Throws UNBD_OBJECT_CHANGED where the answer belongs to another version of the object, and
 * UNBD_BACKEND_PROTOCOL where it does not tell. Equal strong ETags are enough: mirrors of one
 * object need not agree on the time.
 */
export function checkSameObject(answer: Answer, was: ObjectIdentity, subject: string): void {
  const is = validators(answer);
  const hasTags = was.etag !== '' && is.etag !== '';
  if (hasTags && was.etag !== is.etag) throw changed(subject, 'ETag', was.etag, is.etag);
  if (hasTags) return;
  const hasTimes = was.lastModified !== '' && is.lastModified !== '';
  if (hasTimes && was.lastModified !== is.lastModified) {
    throw changed(subject, 'Last-Modified', was.lastModified, is.lastModified);
  }
  // A 206 has every validator that a 200 would have (RFC 9110, 15.3.7); a weak ETag is none, and
  // the same time does not stand for the same ETag.
  const isMissing = was.etag !== '' || (was.lastModified !== '' && !hasTimes);
  if (isMissing) throw wrongAnswer(subject, 'its version is missing (ETag, Last-Modified)');
}

export function checkSameSize(totalBytes: bigint, was: ObjectIdentity, subject: string): void {
  if (totalBytes === was.sizeBytes) return;
  throw changed(subject, 'size', `${was.sizeBytes} bytes`, `${totalBytes} bytes`);
}

/** Throws UNBD_BACKEND_PROTOCOL unless the body is the bytes as they are stored, in one piece. */
export function checkPlainBody(answer: Answer, subject: string): void {
  const encoding = header(answer, 'content-encoding')?.trim().toLowerCase() ?? '';
  if (encoding !== '' && encoding !== 'identity') {
    const hint = 'store the object without Content-Encoding, and do not compress it on the way';
    throw wrongAnswer(subject, `its Content-Encoding is ${oneLine(encoding, 40)}`, hint);
  }
  if (/^\s*multipart\/byteranges/i.test(header(answer, 'content-type') ?? '')) {
    throw wrongAnswer(subject, 'one range was asked for, and it sends several (multipart)');
  }
}

/** Throws UNBD_BACKEND_PROTOCOL for a Content-Range that is missing or no range of bytes. */
export function contentRange(answer: Answer, subject: string): ContentRange {
  const text = header(answer, 'content-range');
  const match = /^bytes +(\d{1,19})-(\d{1,19})\/(\d{1,19}|\*)$/i.exec(text?.trim() ?? '');
  const [, first, last, total] = match ?? [];
  if (first === undefined || last === undefined || total === undefined) {
    const what = text === undefined ? 'missing' : `"${oneLine(text, 80)}"`;
    throw wrongAnswer(subject, `its Content-Range is ${what}`);
  }
  const totalBytes = total === '*' ? undefined : BigInt(total);
  return { first: BigInt(first), last: BigInt(last), totalBytes };
}

/** Throws UNBD_BACKEND_PROTOCOL where the range is not exactly the one that was asked for. */
export function checkRange(range: ContentRange, first: number, last: number, subject: string) {
  if (range.first === BigInt(first) && range.last === BigInt(last)) return;
  const why = `bytes ${first}-${last} were asked for, and it sends ${range.first}-${range.last}`;
  throw wrongAnswer(subject, why);
}

/** Throws UNBD_BACKEND_PROTOCOL where the answer announces another number of bytes. */
export function checkLength(answer: Answer, lengthBytes: number, subject: string): void {
  const length = header(answer, 'content-length');
  if (length === undefined || length.trim() === String(lengthBytes)) return;
  const why = `its Content-Length is ${oneLine(length, 30)}, ${lengthBytes} bytes were asked for`;
  throw wrongAnswer(subject, why);
}

/** The size that a 416 tells (`bytes *` + `/SIZE`, RFC 9110, 15.5.17); undefined for none. */
export function unsatisfiedSize(answer: Answer): bigint | undefined {
  const size = /^bytes +\*\/(\d{1,19})$/i.exec(header(answer, 'content-range')?.trim() ?? '')?.[1];
  return size === undefined ? undefined : BigInt(size);
}
