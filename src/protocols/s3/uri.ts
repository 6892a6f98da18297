/**
 * Owns: s3:// targets: which bucket, key and version they name, and their canonical text.
 * Runs in: any process; pure.
 * Must not: repeat a user name or password in a message, or know where a bucket is.
 */
import type { ObjectTarget } from '../adapter.ts';
import { decodePercent } from '../nbd/uri.ts';
import { malformed } from '../target-error.ts';

export type S3Target = Extract<ObjectTarget, { kind: 's3' }>;

/** Of S3 (UTF-8), and what the longest known version ID needs, several times over. */
const MAXIMUM_KEY_BYTES = 1024;
const MAXIMUM_VERSION_LENGTH = 1024;

/** Other makers of S3 allow what AWS did before 2018: capitals, underscores, longer names. */
const BUCKET = /^[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?$/i;
/** A directory bucket of S3 Express: its requests are signed in another way. */
const EXPRESS = /--x-s3$/;

const CURE = 'write s3://BUCKET/KEY or s3://BUCKET/KEY?versionId=ID';

/**
 * `rest` is what follows `s3://`: the bucket, the key with percent-encoding, and `?versionId=`.
 * Throws UNBD_TARGET_MALFORMED.
 */
export function parseS3Uri(text: string, rest: string): Omit<S3Target, 'text'> {
  const [, bucket = '', path, query] = /^([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?/s.exec(rest) ?? [];
  if (bucket.includes('@')) {
    const why = 'it holds a user name or password';
    throw malformed(text, why, 'name a profile with --s3-profile');
  }
  if (rest.includes('#')) {
    throw malformed(text, 'it has a fragment', 'leave out what begins with #, or write # as %23');
  }
  if (!BUCKET.test(bucket)) throw malformed(text, 'it names no bucket', CURE);
  if (EXPRESS.test(bucket)) {
    const why = 'buckets of S3 Express are not supported';
    throw malformed(text, why, 'copy the image to a bucket of another class');
  }
  const key = checkKey(text, decodePercent(text, path ?? ''));
  const versionId = parseVersion(text, query);
  return { kind: 's3', bucket, key, ...(versionId === undefined ? {} : { versionId }) };
}

function checkKey(text: string, key: string): string {
  if (key === '') throw malformed(text, 'it names no key', CURE);
  if (/[\0\p{Surrogate}]/u.test(key)) {
    throw malformed(text, 'its key is not UTF-8 text without NUL', 'check the key');
  }
  if (Buffer.byteLength(key) > MAXIMUM_KEY_BYTES) {
    throw malformed(text, 'its key is over 1024 bytes', 'check the key');
  }
  if (key.split('/').some((part) => part === '.' || part === '..')) {
    throw malformed(text, 'its key has a part . or .., which HTTP takes out', 'rename the object');
  }
  return key;
}

function parseVersion(text: string, query: string | undefined): string | undefined {
  if (query === undefined) return undefined;
  const match = /^versionId=([^&]*)$/.exec(query);
  if (match?.[1] === undefined) {
    throw malformed(text, 'its query has more than versionId', `${CURE}; write ? in a key as %3F`);
  }
  const versionId = decodePercent(text, match[1]);
  if (!isVersionId(versionId)) {
    throw malformed(text, 'its versionId is not one', CURE);
  }
  return versionId;
}

/** Visible ASCII: it goes to addresses and to the registry. */
export function isVersionId(text: string): boolean {
  return /^[\x21-\x7e]+$/.test(text) && text.length <= MAXIMUM_VERSION_LENGTH;
}

/** As SigV4 encodes a part of a path: all but the unreserved characters of RFC 3986. */
export function encodeS3(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

export function encodeS3Key(key: string): string {
  return key.split('/').map(encodeS3).join('/');
}

/** The canonical text: parseS3Uri of it gives the same target. */
export function s3Text({ bucket, key, versionId }: Omit<S3Target, 'text'>): string {
  const version = versionId === undefined ? '' : `?versionId=${encodeS3(versionId)}`;
  return `s3://${bucket}/${encodeS3Key(key)}${version}`;
}
