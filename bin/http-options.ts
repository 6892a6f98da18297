/**
 * Owns: the options of connect and mount that are about images on web servers.
 * Runs in: the CLI.
 * Must not: read the files that they name: a recovery reads them too, so that only their paths go
 * on.
 */
import { resolve } from 'node:path';
import type { ConnectOptions } from '../src/gateway/messages.ts';
import { readSize } from '../src/protocols/size.ts';
import { usageError } from './command.ts';

/** Four chunks, and the largest buffer that every supported Node.js has. */
const MINIMUM_CACHE_BYTES = 4n << 20n;
const MAXIMUM_CACHE_BYTES = 4n << 30n;

export const httpOptions = {
  'cache-memory': {
    type: 'string',
    requiresArg: true,
    describe: 'Memory for what was read of an HTTP image, such as 1G [128M]',
  },
  'header-file': {
    type: 'string',
    requiresArg: true,
    describe: 'File of "Name: value" lines that every HTTP request carries, for credentials',
  },
  'ca-file': {
    type: 'string',
    requiresArg: true,
    describe: 'PEM file of the certificates to trust with https',
  },
} as const;

export interface HttpArguments {
  readonly 'cache-memory': string | undefined;
  readonly 'header-file': string | undefined;
  readonly 'ca-file': string | undefined;
}

/** Throws UNBD_USAGE where one is wrong or the target is no HTTP image. */
export function httpConnectOptions(
  args: HttpArguments,
  { kind }: ConnectOptions['target'],
): Partial<ConnectOptions> {
  const { 'cache-memory': memory, 'header-file': headerFile, 'ca-file': caFile } = args;
  for (const name of Object.keys(httpOptions)) {
    if (kind === 'http' || args[name as keyof HttpArguments] === undefined) continue;
    throw usageError(`--${name} is for HTTP images`, 'leave it out, or name a target http://…');
  }
  return {
    ...(memory === undefined ? {} : { cacheMemoryBytes: cacheBytes(memory) }),
    ...(headerFile === undefined ? {} : { headerFile: resolve(headerFile) }),
    ...(caFile === undefined ? {} : { caFile: resolve(caFile) }),
  };
}

function cacheBytes(text: string): number {
  const bytes = readSize(text);
  if (bytes === undefined || bytes < MINIMUM_CACHE_BYTES || bytes > MAXIMUM_CACHE_BYTES) {
    throw usageError(`cache-memory '${text}' cannot be used`, 'write 4M to 4G, such as 256M');
  }
  return Number(bytes);
}
