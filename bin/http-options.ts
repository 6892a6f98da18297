/**
 * Owns: the options of connect and mount that are about images on web servers and in S3, and those
 * of them that info has.
 * Runs in: the CLI.
 * Must not: read the files that they name: a recovery reads them too, so that only their paths go
 * on.
 */
import { realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import type { ConnectOptions } from '../src/gateway/messages.ts';
import type { OriginOptions } from '../src/gateway/open-source.ts';
import { parseProxy } from '../src/protocols/http/proxy-address.ts';
import { readSize } from '../src/protocols/size.ts';
import { usageError } from './command.ts';

/** The largest buffer that every supported Node.js has. The least is four chunks of the default. */
const MEMORY_BYTES = [4n << 20n, 4n << 30n] as const;
const FILL_UNIT_BYTES = [64n << 10n, 16n << 20n] as const;
const RATE_BYTES = [64n << 10n, 1n << 40n] as const;
/** Less is memory's work; and the messages carry it as a number. */
const DISK_BYTES = [64n << 20n, BigInt(Number.MAX_SAFE_INTEGER)] as const;

/** How the origin is reached. */
export const originOptions = {
  proxy: {
    type: 'string',
    requiresArg: true,
    describe: 'Proxy for an HTTP or S3 image, http://HOST[:PORT]; no other one is ever used',
  },
  'proxy-header-file': {
    type: 'string',
    requiresArg: true,
    describe: 'File of "Name: value" lines for that proxy alone, for credentials',
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

export const httpOptions = {
  'cache-memory': {
    type: 'string',
    requiresArg: true,
    describe: 'Memory for what was read of an HTTP or S3 image, such as 1G [128M]',
  },
  'fill-unit': {
    type: 'string',
    requiresArg: true,
    describe:
      'What of such an image is fetched and evicted as one: 64K, 128K and so on to 16M [1M]',
  },
  cache: {
    type: 'string',
    requiresArg: true,
    describe: 'Folder on disk that keeps what was read of such an image, also for later devices',
  },
  'cache-size': {
    type: 'string',
    requiresArg: true,
    describe: 'What of the image --cache keeps at most, such as 50G [10G]',
  },
  spool: {
    type: 'boolean',
    describe: 'Download an HTTP image into --cache first, where its server sends no ranges',
  },
  prefetch: {
    choices: ['none', 'full'] as const,
    requiresArg: true,
    describe: 'Bring all of an HTTP or S3 image into --cache, after what is read of it [none]',
  },
  'prefetch-rate': {
    type: 'string',
    requiresArg: true,
    describe: 'Bytes per second that --prefetch fetches at most, such as 20M',
  },
  ...originOptions,
} as const;

/** Requests to S3 are signed, and take no other credential; every service of S3 sends ranges. */
const HTTP_ALONE: ReadonlySet<string> = new Set(['header-file', 'spool']);

export interface OriginArguments {
  readonly proxy: string | undefined;
  readonly 'proxy-header-file': string | undefined;
  readonly 'header-file': string | undefined;
  readonly 'ca-file': string | undefined;
}

export interface HttpArguments extends OriginArguments {
  readonly 'cache-memory': string | undefined;
  readonly 'fill-unit': string | undefined;
  readonly cache: string | undefined;
  readonly 'cache-size': string | undefined;
  readonly spool: boolean | undefined;
  readonly prefetch: 'none' | 'full' | undefined;
  readonly 'prefetch-rate': string | undefined;
}

/** Throws UNBD_USAGE where one is wrong or not for the target. */
export function httpConnectOptions(
  args: HttpArguments,
  { kind }: ConnectOptions['target'],
): Partial<ConnectOptions> {
  refuseElsewhere(args, kind);
  return {
    ...memoryOptions(args),
    ...diskOptions(args),
    ...spoolOptions(args),
    ...prefetchOptions(args),
    ...reachOptions(args),
  };
}

/** Throws as httpConnectOptions does. */
export function originConnectOptions(
  args: OriginArguments,
  { kind }: ConnectOptions['target'],
): OriginOptions {
  refuseElsewhere(args, kind);
  return reachOptions(args);
}

function reachOptions(args: OriginArguments): OriginOptions {
  const { 'header-file': headerFile, 'ca-file': caFile } = args;
  return {
    ...proxyOptions(args),
    ...(headerFile === undefined ? {} : { headerFile: resolve(headerFile) }),
    ...(caFile === undefined ? {} : { caFile: resolve(caFile) }),
  };
}

function proxyOptions(args: OriginArguments): OriginOptions {
  const { proxy, 'proxy-header-file': headerFile } = args;
  if (proxy !== undefined) {
    return {
      proxy: parseProxy(proxy),
      ...(headerFile === undefined ? {} : { proxyHeaderFile: resolve(headerFile) }),
    };
  }
  if (headerFile === undefined) return {};
  throw usageError('--proxy-header-file is for a proxy', 'add --proxy http://HOST[:PORT]');
}

function refuseElsewhere(
  args: Partial<HttpArguments>,
  kind: ConnectOptions['target']['kind'],
): void {
  for (const name of Object.keys(httpOptions)) {
    if (args[name as keyof HttpArguments] === undefined || kind === 'http') continue;
    if (kind === 's3' && !HTTP_ALONE.has(name)) continue;
    const images = HTTP_ALONE.has(name) ? 'HTTP' : 'HTTP and S3';
    throw usageError(
      `--${name} is for ${images} images`,
      'leave it out, or name a target http://…',
    );
  }
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

function memoryOptions(args: HttpArguments): Partial<ConnectOptions> {
  const { 'cache-memory': memory, 'fill-unit': unit } = args;
  const cacheMemoryBytes =
    memory === undefined
      ? undefined
      : bytesOf('cache-memory', memory, MEMORY_BYTES, 'write 4M to 4G, such as 256M');
  if (unit === undefined) return cacheMemoryBytes === undefined ? {} : { cacheMemoryBytes };
  const hint = 'write 64K, 128K and so on to 16M';
  const fillUnitBytes = bytesOf('fill-unit', unit, FILL_UNIT_BYTES, hint);
  if ((fillUnitBytes & (fillUnitBytes - 1)) !== 0) {
    throw usageError(`fill-unit '${unit}' is no power of two`, hint);
  }
  if (cacheMemoryBytes === undefined) return { fillUnitBytes };
  if (cacheMemoryBytes < 4 * fillUnitBytes) {
    const text = `cache-memory '${memory}' has no room for four fill units of ${unit}`;
    throw usageError(text, 'add memory, or make --fill-unit smaller');
  }
  return { cacheMemoryBytes, fillUnitBytes };
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

function spoolOptions({ spool, cache }: HttpArguments): Partial<ConnectOptions> {
  if (spool !== true) return {};
  if (cache === undefined) throw usageError('--spool needs a cache on disk', 'add --cache DIR');
  return { spool };
}

function prefetchOptions(args: HttpArguments): Partial<ConnectOptions> {
  const { prefetch, 'prefetch-rate': rate } = args;
  if (prefetch !== 'full') {
    if (rate === undefined) return prefetch === undefined ? {} : { prefetch };
    throw usageError('--prefetch-rate is for what is prefetched', 'add --prefetch full');
  }
  if (args.cache === undefined) {
    throw usageError('--prefetch full needs a cache on disk', 'add --cache DIR');
  }
  if (rate === undefined) return { prefetch };
  const hint = 'write 64K to 1T, such as 20M';
  return { prefetch, prefetchBytesPerS: bytesOf('prefetch-rate', rate, RATE_BYTES, hint) };
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
