/**
 * Owns: the verdict on the head of an answer: when an object is opened, and when a range of it is
 * read.
 * Runs in: any process; pure.
 * Must not: accept an answer that could put a wrong byte into a device.
 */
import type { ObjectIdentity } from '../adapter.ts';
import { SourceError } from '../source/source-error.ts';
import * as answers from './answer.ts';
import { statusError } from './failures.ts';

/** Sources count in numbers of JS. */
const MAXIMUM_SOURCE_BYTES = BigInt(Number.MAX_SAFE_INTEGER);

/**
 * Which object answers a request for its first byte. Throws UNBD_EXPORT_UNUSABLE for one that
 * cannot be read by ranges, has no size or is too large, and what a status or a wrong answer is.
 */
export function judgeOpening(answer: answers.Answer, subject: string): ObjectIdentity {
  if (answer.status === 200) throw noRanges(answer, subject);
  const unusable = (why: string, hint: string) =>
    new SourceError('UNBD_EXPORT_UNUSABLE', `${subject} cannot be a device: ${why}`, { hint });
  if (answer.status === 416) {
    // RFC 9110, 15.5.17: the first byte of an object is missing only where there is none.
    if ((answers.unsatisfiedSize(answer) ?? 0n) === 0n) throw empty(subject);
    throw answers.wrongAnswer(subject, 'it has a size, and refuses its first byte');
  }
  if (answer.status !== 206) throw statusError(answer, subject);
  answers.checkPlainBody(answer, subject);
  const range = answers.contentRange(answer, subject);
  answers.checkRange(range, 0, 0, subject);
  answers.checkLength(answer, 1, subject);
  const sizeBytes = range.totalBytes;
  if (sizeBytes === undefined) {
    throw unusable('its size is not told (Content-Range)', 'use a server that tells it');
  }
  if (sizeBytes === 0n) throw answers.wrongAnswer(subject, 'it sends a byte of an empty object');
  if (sizeBytes > MAXIMUM_SOURCE_BYTES) throw tooLarge(sizeBytes, subject);
  return { sizeBytes, ...answers.validators(answer) };
}

function empty(subject: string): SourceError {
  return new SourceError('UNBD_EXPORT_UNUSABLE', `${subject} cannot be a device: its size is 0`, {
    hint: 'give it a size at the origin',
  });
}

function noRanges(answer: answers.Answer, subject: string): SourceError {
  if (answers.header(answer, 'content-length') === '0') return empty(subject);
  const why = 'its server sends no ranges (Range was answered with 200)';
  return new SourceError('UNBD_EXPORT_UNUSABLE', `${subject} cannot be a device: ${why}`, {
    hint: 'to download it first, add --spool --cache DIR; or use a server that does',
  });
}

/**
 * As `judgeOpening`, of an answer with everything, by an origin that sends no ranges. Throws
 * UNBD_EXPORT_UNUSABLE too where nothing tells how long that is.
 */
export function judgeWhole(answer: answers.Answer, subject: string): ObjectIdentity {
  answers.checkPlainBody(answer, subject);
  const length = answers.header(answer, 'content-length')?.trim() ?? '';
  if (length === '0') throw empty(subject);
  if (!/^\d{1,19}$/.test(length)) {
    const text = `${subject} cannot be downloaded first: its size is not told (Content-Length)`;
    throw new SourceError('UNBD_EXPORT_UNUSABLE', text, { hint: 'use a server that tells it' });
  }
  const sizeBytes = BigInt(length);
  if (sizeBytes > MAXIMUM_SOURCE_BYTES) throw tooLarge(sizeBytes, subject);
  return { sizeBytes, ...answers.validators(answer) };
}

function tooLarge(sizeBytes: bigint, subject: string): SourceError {
  const text = `${subject} cannot be a device: its size, ${sizeBytes} bytes, is over 2^53 - 1`;
  return new SourceError('UNBD_EXPORT_UNUSABLE', text, { hint: 'check the origin' });
}

/** One range of the object that was opened. */
export interface Asked {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly identity: ObjectIdentity;
  /** Everything will do too: its part is taken. */
  readonly orWhole?: boolean;
}

/**
 * Passes if the body is exactly the range that was asked for. Throws UNBD_OBJECT_CHANGED if the
 * object is another one, and what a status or a wrong answer is. Whether it is the same object
 * comes before whether it is the range: an object that shrank cuts the range.
 */
export function judgeRead(answer: answers.Answer, asked: Asked, subject: string): void {
  const { offsetBytes, lengthBytes, identity } = asked;
  if (answer.status === 412 && identity.etag !== '') throw gone(subject, 'its ETag is not that');
  if (answer.status === 416) {
    // A cache may refuse a range out of its own troubles; the size that it tells gives it away.
    // Another version would have met If-Match before its size counts (RFC 9110, 13.2.2).
    const sizeBytes = answers.unsatisfiedSize(answer);
    if (sizeBytes !== undefined) answers.checkSameSize(sizeBytes, identity, subject);
    else if (identity.etag === '') throw gone(subject, 'its size is not that');
    throw answers.wrongAnswer(subject, 'it refuses a range that it has (416)');
  }
  const isWhole = offsetBytes === 0 && BigInt(lengthBytes) === identity.sizeBytes;
  if (answer.status === 200 && !isWhole && asked.orWhole !== true) {
    throw answers.wrongAnswer(subject, 'a range was asked for, and it sends everything (200)');
  }
  if (answer.status !== 206 && answer.status !== 200) throw statusError(answer, subject);
  answers.checkPlainBody(answer, subject);
  const range = answer.status === 206 ? answers.contentRange(answer, subject) : undefined;
  if (range?.totalBytes !== undefined) {
    answers.checkSameSize(range.totalBytes, identity, subject);
  } else if (range !== undefined && identity.etag === '' && identity.lastModified === '') {
    throw answers.wrongAnswer(subject, 'nothing tells its version, and its size is not told');
  }
  answers.checkSameObject(answer, identity, subject);
  if (range !== undefined) {
    answers.checkRange(range, offsetBytes, offsetBytes + lengthBytes - 1, subject);
  }
  const sentBytes = range === undefined ? Number(identity.sizeBytes) : lengthBytes;
  answers.checkLength(answer, sentBytes, subject);
}

/** The object is another one now; `why` is a sentence up to "of the object that was opened". */
export function gone(subject: string, why: string): SourceError {
  return new SourceError(
    'UNBD_OBJECT_CHANGED',
    `${subject} is another object now: ${why} of the object that was opened`,
    { hint: 'disconnect the device and connect it again' },
  );
}
