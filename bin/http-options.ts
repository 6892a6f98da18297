/**
 * Owns: the options of connect and mount that are about images on web servers.
 * Runs in: the CLI.
 * Must not: read the files that they name: a recovery reads them too, so that only their paths go
 * on.
 */
import { realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import type { ConnectOptions } from '../src/gateway/messages.ts';
import { readSize } from '../src/protocols/size.ts';
import { usageError } from './command.ts';

/** Four chunks, and the largest buffer that every supported Node.js has. */
const MEMORY_BYTES = [4n << 20n, 4n << 30n] as const;
/** Less is memory's work; and the messages carry it as a number. */
const DISK_BYTES = [64n << 20n, BigInt(Number.MAX_SAFE_INTEGER)] as const;

export const httpOptions = {
  'cache-memory': {
    type: 'string',
    requiresArg: true,
    describe: 'Memory for what was read of an HTTP image, such as 1G [128M]',
  },
  cache: {
    type: 'string',
    requiresArg: true,
    describe: 'Folder on disk that keeps what was read of an HTTP image, also for later devices',
  },
  'cache-size': {
    type: 'string',
    requiresArg: true,
    describe: 'What of the image --cache keeps at most, such as 50G [10G]',
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
  readonly cache: string | undefined;
  readonly 'cache-size': string | undefined;
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
    ...memoryOptions(memory),
    ...diskOptions(args),
    ...(headerFile === undefined ? {} : { headerFile: resolve(headerFile) }),
    ...(caFile === undefined ? {} : { caFile: resolve(caFile) }),
  };
}

/** Throws UNBD_USAGE, with what `hint` says to write, outside `minimum` to `maximum`. */
function bytesOf(
  option: keyof HttpArguments,
  text: string,
  [minimum, maximum]: readonly [minimum: bigint, maximum: bigint],
  hint: string,
): number {
  const bytes = readSize(text);
  if (bytes === undefined || bytes < minimum || bytes > maximum) {
    throw usageError(`${option} '${text}' cannot be used`, hint);
  }
  return Number(bytes);
}

function memoryOptions(text: string | undefined): Partial<ConnectOptions> {
  if (text === undefined) return {};
  const hint = 'write 4M to 4G, such as 256M';
  return { cacheMemoryBytes: bytesOf('cache-memory', text, MEMORY_BYTES, hint) };
}

function diskOptions({ cache, 'cache-size': size }: HttpArguments): Partial<ConnectOptions> {
  if (cache === '') throw usageError('--cache names no folder', 'write --cache DIR');
  if (cache === undefined) {
    if (size === undefined) return {};
    throw usageError('--cache-size is for a cache on disk', 'add --cache DIR');
  }
  const cacheDirectory = withoutLinks(resolve(cache));
  if (size === undefined) return { cacheDirectory };
  const hint = 'write 64M to 8191T, such as 50G';
  return { cacheDirectory, cacheSizeBytes: bytesOf('cache-size', size, DISK_BYTES, hint) };
}

/** What the path means now, wherever links may lead later. Its last part need not be there. */
function withoutLinks(path: string): string {
  for (const last of ['', basename(path)]) {
    try {
      return join(realpathSync(last === '' ? path : dirname(path)), last);
    } catch {
      // Why it cannot be used is said when it is used.
    }
  }
  return path;
}
