/**
 * Owns: what S3 says in the body of an answer that refuses, and what each of its codes means as a
 * SourceError.
 * Runs in: any process; pure.
 * Must not: parse XML beyond its first plain elements, or show text that an origin wrote, but for
 * a code of letters: it may repeat a secret.
 */
import type { ErrorCode } from '../errors.ts';
import { type Answer, header } from '../http/answer.ts';
import { StatusError, statusError } from '../http/failures.ts';
import type { SourceError } from '../source/source-error.ts';
import { isRegion } from './endpoint.ts';

/** The elements of `<Error>` that decide something; undefined where they are not there. */
export interface Refusal {
  readonly code: string | undefined;
  /** Where the bucket is. */
  readonly region: string | undefined;
}

export function refusalOf(answer: Answer): Refusal {
  const body = answer.body ?? '';
  const code = /<Code>([A-Za-z0-9.]{1,64})<\/Code>/.exec(body)?.[1];
  const told = /<Region>([^<]{1,64})<\/Region>/.exec(body)?.[1];
  const region = header(answer, 'x-amz-bucket-region') ?? told;
  return { code, region: region !== undefined && isRegion(region) ? region : undefined };
}

/** Answers that other credentials may mend, by their code; AWS has 400 for some of them. */
const OF_CREDENTIALS: ReadonlySet<string> = new Set([
  'AccessDenied',
  'ExpiredToken',
  'InvalidAccessKeyId',
  'InvalidToken',
  'SignatureDoesNotMatch',
  'TokenRefreshRequired',
]);

export function isOfCredentials({ status }: Answer, { code }: Refusal): boolean {
  if (code !== undefined) return OF_CREDENTIALS.has(code);
  return status === 401 || status === 403;
}

/** Answers that another region mends: the bucket is elsewhere, or the signature names another. */
const OF_REGION: ReadonlySet<string> = new Set([
  'AuthorizationHeaderMalformed',
  'IllegalLocationConstraintException',
  'IncorrectEndpoint',
  'PermanentRedirect',
]);

export function isOfRegion({ status }: Answer, { code }: Refusal): boolean {
  return status === 301 || (code !== undefined && OF_REGION.has(code));
}

type Meaning = readonly [kind: ErrorCode, why: string, cure: string];

const REFUSED = 'UNBD_EXPORT_REFUSED';
const EXPIRED: Meaning = [
  REFUSED,
  'the session token has expired, and there is no newer one',
  'renew the credentials of the profile, such as by: aws sso login',
];
const UNKNOWN: Meaning = [
  REFUSED,
  'its access key is not known there',
  'check the credentials of the profile, and --s3-endpoint',
];
const ELSEWHERE: Meaning = [
  REFUSED,
  'the bucket is in another region',
  'name its region with --s3-region, and its endpoint with --s3-endpoint',
];

const MEANINGS: Readonly<Record<string, Meaning>> = {
  AccessDenied: [
    REFUSED,
    'the credentials may not read it',
    'allow s3:GetObject (s3:GetObjectVersion for a version), or check the key: without ' +
      's3:ListBucket one that is missing is answered so too',
  ],
  AllAccessDisabled: [REFUSED, 'all access to it was disabled', 'ask its owner'],
  AuthorizationHeaderMalformed: ELSEWHERE,
  ExpiredToken: EXPIRED,
  IllegalLocationConstraintException: ELSEWHERE,
  IncorrectEndpoint: ELSEWHERE,
  InvalidAccessKeyId: UNKNOWN,
  InvalidObjectState: [
    'UNBD_EXPORT_UNUSABLE',
    'it is archived, and has to be restored before it can be read',
    'restore it, such as by: aws s3api restore-object',
  ],
  InvalidToken: EXPIRED,
  NoSuchBucket: [
    'UNBD_EXPORT_UNKNOWN',
    'there is no such bucket',
    'check its name, and --s3-endpoint',
  ],
  NoSuchKey: ['UNBD_EXPORT_UNKNOWN', 'there is no such key in the bucket', 'check the key'],
  NoSuchVersion: [
    'UNBD_EXPORT_UNKNOWN',
    'there is no such version of it',
    'check versionId, or leave it out for the current version',
  ],
  PermanentRedirect: ELSEWHERE,
  RequestTimeTooSkewed: [
    REFUSED,
    "this machine's clock differs too much from its own",
    'set the clock of this machine',
  ],
  SignatureDoesNotMatch: [
    REFUSED,
    'the secret access key is not that of the access key',
    'check the credentials of the profile',
  ],
  TokenRefreshRequired: EXPIRED,
  XAmzContentSHA256Mismatch: [REFUSED, 'something on the way changes requests', 'check the proxy'],
};

/** What is wrong, as people see it; `subject` names the object. */
export function refusalError(answer: Answer, { code }: Refusal, subject: string): SourceError {
  const { status } = answer;
  const isDeleted = header(answer, 'x-amz-delete-marker') === 'true';
  const meaning: Meaning | undefined = isDeleted
    ? ['UNBD_EXPORT_UNKNOWN', 'it was deleted (a delete marker)', 'name an earlier ?versionId=']
    : MEANINGS[code !== undefined && Object.hasOwn(MEANINGS, code) ? code : ''];
  const shown = code === undefined ? String(status) : `${status} ${code}`;
  if (meaning !== undefined) {
    const [kind, why, hint] = meaning;
    return new StatusError(status, kind, `${subject} answers ${shown}: ${why}`, { hint });
  }
  if (status === 301 || status === 307) {
    const [kind, why, hint] = ELSEWHERE;
    return new StatusError(status, kind, `${subject} answers ${shown}: ${why}`, { hint });
  }
  if (status === 401 || status === 403) {
    const hint = 'check --s3-profile, or --s3-anonymous for a public bucket';
    return new StatusError(status, REFUSED, `${subject} answers ${shown}: it may not be read`, {
      hint,
    });
  }
  return statusError(answer, code === undefined ? subject : `${subject} (${code})`);
}
