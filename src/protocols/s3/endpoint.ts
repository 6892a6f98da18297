/**
 * Owns: where a bucket is: the address of an object for an endpoint, a region and a style of
 * address, and which other addresses an origin may lead to.
 * Runs in: any process; pure.
 * Must not: ask for anything, or know credentials.
 */
import { GatewayError } from '../errors.ts';
import { encodeS3, encodeS3Key, type S3Target } from './uri.ts';

/** As the AWS command line has it (`addressing_style`); undefined: what suits the endpoint. */
export type AddressingStyle = 'path' | 'virtual';

export interface PlaceOptions {
  /** Of another maker of S3 than AWS, or of a part of AWS: a web address. */
  readonly endpoint?: string | undefined;
  readonly addressingStyle?: AddressingStyle | undefined;
}

/** AWS has its oldest region where none is named; it tells of the right one. */
export const DEFAULT_REGION = 'us-east-1';

/** Of a region, such as `eu-west-1`; others make up their own. */
export function isRegion(text: string): boolean {
  return /^[a-z0-9][a-z0-9_-]{0,62}$/i.test(text);
}

/**
 * The endpoint as a web address without a final slash. Throws UNBD_USAGE for what cannot be one;
 * it is on a command line, where no secret may be.
 */
export function parseEndpoint(text: string): string {
  const wrong = (why: string) =>
    new GatewayError('UNBD_USAGE', `the S3 endpoint cannot be used: ${why}`, {
      hint: 'write https://HOST[:PORT]',
    });
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw wrong('it is not a web address');
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw wrong('it is not https or http');
  if (url.username !== '' || url.password !== '') throw wrong('it holds a user name or password');
  if (url.search !== '' || url.hash !== '') throw wrong('it has a query or a fragment');
  return url.href.replace(/\/+$/, '');
}

/** The address of the object; `versionId` is the one to ask for. */
export function objectUrl(
  { bucket, key }: Pick<S3Target, 'bucket' | 'key'>,
  { endpoint, addressingStyle }: PlaceOptions,
  region: string,
  versionId?: string,
): URL {
  const base = new URL(endpoint ?? awsEndpoint(region));
  // A certificate for *.s3.amazonaws.com is none for a name with a dot in front of it.
  const suits = endpoint === undefined && !bucket.includes('.') ? 'virtual' : 'path';
  const folder = base.pathname.replace(/\/+$/, '');
  const isVirtual = (addressingStyle ?? suits) === 'virtual';
  const path = isVirtual ? encodeS3Key(key) : `${encodeS3(bucket)}/${encodeS3Key(key)}`;
  const host = isVirtual ? `${bucket}.${base.host}` : base.host;
  const query = versionId === undefined ? '' : `?versionId=${encodeS3(versionId)}`;
  return new URL(`${base.protocol}//${host}${folder}/${path}${query}`);
}

function awsEndpoint(region: string): string {
  const suffix = region.startsWith('cn-') ? 'amazonaws.com.cn' : 'amazonaws.com';
  return `https://s3.${region}.${suffix}`;
}

/** Which object it is, wherever the bucket may be at the moment: the key of its cache on disk. */
export function objectName(
  target: Pick<S3Target, 'bucket' | 'key' | 'versionId'>,
  endpoint: string | undefined,
): string {
  const place = {
    endpoint: endpoint ?? 'https://s3.amazonaws.com',
    addressingStyle: 'path',
  } as const;
  return objectUrl(target, place, DEFAULT_REGION, target.versionId).href;
}

/**
 * Whether a redirect of `from` may be followed with a new signature: to its own host, to one below
 * it, or within AWS. Whoever else could spread what a signature allows.
 */
export function mayLeadTo(from: URL, to: URL, endpoint: string | undefined): boolean {
  if (from.protocol !== to.protocol && to.protocol !== 'https:') return false;
  if (endpoint === undefined) return /\.amazonaws\.com(?:\.cn)?$/.test(to.hostname);
  const { hostname } = new URL(endpoint);
  return to.hostname === hostname || to.hostname.endsWith(`.${hostname}`);
}
