/**
 * Owns: the options that describe a connection, shared by connect and mount, and their limits.
 * Runs in: the CLI.
 * Must not: know which of them a backend can honour; the server process decides and says so.
 */
import type { Argv } from 'yargs';
import type { ConnectOptions, DataPath } from '../src/gateway/messages.ts';
import { type Context, integerOption, usageError } from './command.ts';
import { type HttpArguments, httpConnectOptions, httpOptions } from './http-options.ts';
import {
  handshakeTimeoutMs,
  type OutageArguments,
  outageConnectOptions,
  outageOptions,
} from './outage-options.ts';
import { type S3Arguments, s3ConnectOptions, s3Options } from './s3-options.ts';

/** Limit of one dial or one handshake, ms. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/** What both commands accept. */
export function basicOptions<A>(yargs: Argv<A>) {
  return yargs.options({
    'read-only': {
      alias: 'r',
      type: 'boolean',
      describe: 'Make the device read-only even where the backend would take writes',
    },
    export: {
      alias: 'N',
      type: 'string',
      requiresArg: true,
      describe: 'Export to ask for, where TARGET names none',
    },
    queues: integerOption('queues', 'Queues of the device', 1, 64),
    depth: integerOption('depth', 'Requests in flight per queue', 1, 4096),
    connections: integerOption('connections', 'Connections to the backend; equals queues', 1, 64),
    id: integerOption('id', 'Number N of /dev/ublkbN', 0, 1_048_575),
    name: {
      type: 'string',
      requiresArg: true,
      describe: 'Stable link to the device, /dev/ublk-nbd/NAME',
    },
    'no-partition-scan': {
      type: 'boolean',
      describe: 'Do not look for partitions',
    },
    'block-size': {
      choices: ['512', '1024', '2048', '4096'] as const,
      requiresArg: true,
      describe: 'Logical block size in bytes',
    },
    'data-path': {
      choices: ['copy', 'user-copy'] as const,
      default: 'copy' as const,
      requiresArg: true,
      describe: 'How bytes pass between the driver and the server process',
    },
    'structured-replies': {
      type: 'boolean',
      describe: 'Ask an NBD backend for structured replies, in which holes need no bandwidth',
    },
    ...outageOptions,
    ...httpOptions,
    ...s3Options,
  });
}

export interface BasicArguments extends OutageArguments, HttpArguments, S3Arguments {
  readonly target: string;
  readonly 'read-only': boolean | undefined;
  readonly export: string | undefined;
  readonly queues: number | undefined;
  readonly depth: number | undefined;
  readonly connections: number | undefined;
  readonly id: number | undefined;
  readonly name: string | undefined;
  readonly 'no-partition-scan': boolean | undefined;
  readonly 'block-size': string | undefined;
  readonly 'data-path': DataPath;
  readonly 'structured-replies': boolean | undefined;
}

/**
 * Parses the target; throws UNBD_USAGE or UNBD_TARGET_MALFORMED. `env`: what of the environment
 * counts.
 */
export async function connectOptions(
  args: BasicArguments,
  context: Context,
  env: NodeJS.ProcessEnv = {},
): Promise<ConnectOptions> {
  const { queues, depth, connections, id, name } = args;
  if (queues !== undefined && connections !== undefined && queues !== connections) {
    throw usageError(
      `queues ${queues} and connections ${connections} differ`,
      'every queue has one connection: give one of them',
    );
  }
  const { isStableName } = await import('../src/gateway/device-name.ts');
  if (name !== undefined && !isStableName(name)) {
    throw usageError(
      `name '${name}' cannot be used`,
      'take up to 64 of A-Z a-z 0-9 . _ - that do not read as a device number',
    );
  }
  const blockSize = args['block-size'];
  const target = await context.gateway.parseTarget(args.target, args.export);
  const s3 = await s3ConnectOptions(args, target, env);
  return {
    target,
    readOnly: args['read-only'] === true,
    partitionScan: args['no-partition-scan'] !== true,
    dataPath: args['data-path'],
    handshakeTimeoutMs: handshakeTimeoutMs(args) ?? HANDSHAKE_TIMEOUT_MS,
    ...nbdConnectOptions(args, target),
    ...outageConnectOptions(args),
    ...httpConnectOptions(args, target),
    ...(s3 === undefined ? {} : { s3 }),
    ...(queues === undefined ? {} : { queues }),
    ...(depth === undefined ? {} : { depth }),
    ...(connections === undefined ? {} : { connections }),
    ...(id === undefined ? {} : { id }),
    ...(name === undefined ? {} : { name }),
    ...(blockSize === undefined ? {} : { blockSizeBytes: Number(blockSize) }),
  };
}

/** Throws UNBD_USAGE where one is not for the target. */
function nbdConnectOptions(
  { 'structured-replies': structuredReplies }: BasicArguments,
  { kind }: ConnectOptions['target'],
): Pick<ConnectOptions, 'structuredReplies'> {
  if (structuredReplies !== true) return {};
  if (kind === 'nbd') return { structuredReplies };
  throw usageError(
    '--structured-replies is for NBD backends',
    'leave it out, or name a target nbd://…',
  );
}
