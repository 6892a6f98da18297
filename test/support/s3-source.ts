/**
 * Owns: an S3 object of the test's own service opened as a source, with scripted credentials.
 * Runs in: unit tests.
 * Must not: ask a real service for credentials.
 */
import type { Source } from '../../src/protocols/adapter.ts';
import type { AwsCredentials } from '../../src/protocols/s3/credentials.ts';
import { type OpenS3Options, openS3 } from '../../src/protocols/s3/source.ts';
import { parseTarget } from '../../src/protocols/target.ts';
import { OBJECT, type Teardown, TIMEOUT_MS } from './http-origin.ts';
import { type S3Origin, type S3State, startS3Origin, type Version } from './s3-origin.ts';

export const SECRET = 'sEcReT/AcCeSs+KeY';
export const KEYS = { id: 'AKIDEXAMPLE', secret: SECRET } as const;
export const VERSION: Version = { id: 'null', etag: '"v1"', bytes: OBJECT };

export async function s3Origin(t: Teardown, given: Partial<S3State> = {}): Promise<S3Origin> {
  const origin = await startS3Origin({ versions: [VERSION], keys: [KEYS], ...given });
  t.teardown(() => origin.close());
  return origin;
}

export const GOOD: AwsCredentials = { accessKeyId: KEYS.id, secretAccessKey: SECRET };

export type Opening = Partial<Omit<OpenS3Options, 's3'>> & {
  readonly target?: string;
  readonly s3?: OpenS3Options['s3'];
};

/** `fetchCredentials` gives the good ones unless `opening` has another. */
export async function openObject(
  t: Teardown,
  { base }: Pick<S3Origin, 'base'>,
  { target: text = 's3://images/disk.img', s3 = {}, ...opening }: Opening = {},
): Promise<Source> {
  const target = parseTarget(text);
  if (target.kind !== 's3') throw new Error(`${text} is not in S3`);
  const source = await openS3(target, {
    timeoutMs: TIMEOUT_MS,
    fetchCredentials: async () => GOOD,
    ...opening,
    s3: { endpoint: base, ...s3 },
  });
  t.teardown(() => source.close());
  return source;
}
