/**
 * Owns: how an object of a web server or in S3 is opened: which of the options of a connect its
 * source takes.
 * Runs in: the server process, and the CLI for `info`, on the JS main thread.
 * Must not: load what only the other kind of origin needs.
 */
import type { ObjectIdentity, ObjectTarget, Source } from '../protocols/adapter.ts';
import type { ConnectOptions } from './messages.ts';

/** How the origin is reached, and as whom. */
export type OriginOptions = Pick<ConnectOptions, 'caFile' | 'headerFile' | 'proxy' | 's3'>;

export type SourceOptions = OriginOptions & Pick<ConnectOptions, 'handshakeTimeoutMs' | 'spool'>;

/** `expected`: the object as it was when the device was made; nothing is asked for then. */
export async function openSource(
  target: ObjectTarget,
  { handshakeTimeoutMs, caFile, headerFile, proxy, spool: orWhole, s3 = {} }: SourceOptions,
  expected?: ObjectIdentity,
): Promise<Source> {
  const options = {
    timeoutMs: handshakeTimeoutMs,
    ...(expected === undefined ? {} : { expected }),
    ...(proxy === undefined ? {} : { proxy }),
    ...(caFile === undefined ? {} : { caFile }),
  };
  if (target.kind === 's3') {
    const { openS3 } = await import('../protocols/s3/source.ts');
    return openS3(target, { ...options, s3 });
  }
  const { openHttp } = await import('../protocols/http/source.ts');
  return openHttp(target, {
    ...options,
    ...(orWhole === undefined ? {} : { orWhole }),
    ...(headerFile === undefined ? {} : { headerFile }),
  });
}
