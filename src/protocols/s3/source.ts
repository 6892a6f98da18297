/**
 * Owns: an object in S3 as a Source: how it is opened, and which version of it is read from then
 * on.
 * Runs in: server processes and the CLI, on the JS main thread.
 * Must not: keep data, wait and try again, or read credentials of an object that is anonymous.
 */
import type { ObjectIdentity, Source } from '../adapter.ts';
import { GatewayError } from '../errors.ts';
import { type Answer, header } from '../http/answer.ts';
import { judgeOpening } from '../http/judge.ts';
import { HttpSource, openPools, probe, type TransferOptions } from '../http/source.ts';
import { credentialChain, type ProfileOptions } from './chain.ts';
import { CredentialCache, type FetchCredentials } from './credentials.ts';
import { DEFAULT_REGION, objectUrl, type PlaceOptions } from './endpoint.ts';
import { Signer } from './sign.ts';
import { isVersionId, type S3Target } from './uri.ts';
import { S3Walker } from './walk.ts';

/** How an object in S3 is found and who asks for it: names and paths, no secret. */
export interface S3Options extends PlaceOptions, ProfileOptions {
  /** Undefined: the origin is asked. */
  readonly region?: string | undefined;
  /** Requests are not signed. */
  readonly anonymous?: boolean | undefined;
}

export interface OpenS3Options extends TransferOptions {
  readonly s3: S3Options;
  /** Instead of the chain. */
  readonly fetchCredentials?: FetchCredentials;
  /** The time of day, ms since 1970. */
  now?(): number;
}

/** The version of objects in a bucket that keeps none; it is overwritten like any of those. */
const NO_VERSION = 'null';

/**
 * Opens the object as `openHttp` does, and pins its version where its bucket keeps versions. With
 * `expected` nothing is asked for.
 *
 * Rejects as `openHttp` does; with UNBD_EXPORT_REFUSED too where there are no credentials.
 */
export async function openS3(target: S3Target, options: OpenS3Options): Promise<Source> {
  const { s3, timeoutMs, expected, now } = options;
  const { region = DEFAULT_REGION } = s3;
  checkPlace(target, s3, region);
  const clock = now === undefined ? {} : { now };
  const fetch = options.fetchCredentials ?? credentialChain(s3);
  const pools = await openPools(options);
  const walker = new S3Walker({
    ...{ pools, target, place: s3, region, timeoutMs },
    credentials:
      s3.anonymous === true ? undefined : new CredentialCache(fetch, { timeoutMs, ...clock }),
    signer: new Signer(now),
  });
  try {
    const identity = expected ?? (await probe(walker, judgeVersion));
    if (identity.versionId !== undefined) walker.pin(identity.versionId);
    return new HttpSource(pools, walker, identity, target.text);
  } catch (error) {
    await pools.close();
    throw error;
  }
}

function judgeVersion(answer: Answer, subject: string): ObjectIdentity {
  const identity = judgeOpening(answer, subject);
  const versionId = header(answer, 'x-amz-version-id') ?? NO_VERSION;
  return versionId === NO_VERSION || !isVersionId(versionId)
    ? identity
    : { ...identity, versionId };
}

/** A bucket before the host makes no address where the host is a number. */
function checkPlace(target: S3Target, place: PlaceOptions, region: string): void {
  try {
    objectUrl(target, place, region);
  } catch {
    throw new GatewayError('UNBD_USAGE', `${target.text} has no address at its endpoint`, {
      hint: 'use --s3-addressing-style path',
    });
  }
}
