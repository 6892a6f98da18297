/**
 * Owns: how an object of a web server or in S3 is opened: which of the options of a connect its
 * source takes.
 * Runs in: the server process, and the CLI for `info`, on the JS main thread.
 * Must not: load what only the other kind of origin needs.
 */
import type { ObjectIdentity, ObjectTarget, Source } from '../protocols/adapter.ts';
import { MAXIMUM_RUN_BYTES } from './fill-run.ts';
import type { ConnectOptions } from './messages.ts';
import type { Addon } from './native.ts';

/** How the origin is reached, and as whom. */
export type OriginOptions = Pick<
  ConnectOptions,
  'caFile' | 'headerFile' | 'proxy' | 'proxyHeaderFile' | 's3'
>;

export type SourceOptions = OriginOptions & Pick<ConnectOptions, 'handshakeTimeoutMs' | 'spool'>;

/** What a process adds of its own. */
export interface OpenOptions {
  /** The object as it was when the device was made; nothing is asked for then. */
  readonly expected?: ObjectIdentity;
  /** For a window of each connection that is wide from its beginning on. */
  readonly addon?: Pick<Addon, 'widenReceiveWindow'>;
}

export async function openSource(
  target: ObjectTarget,
  { handshakeTimeoutMs, caFile, headerFile, spool: orWhole, s3 = {}, ...reach }: SourceOptions,
  { expected, addon }: OpenOptions = {},
): Promise<Source> {
  const connected = (fd: number) => void addon?.widenReceiveWindow(fd, MAXIMUM_RUN_BYTES);
  const options = {
    timeoutMs: handshakeTimeoutMs,
    connected,
    ...(expected === undefined ? {} : { expected }),
    ...(reach.proxy === undefined
      ? {}
      : { proxy: { origin: reach.proxy, headerFile: reach.proxyHeaderFile } }),
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
