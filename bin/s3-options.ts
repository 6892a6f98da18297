/**
 * Owns: the options of connect, mount and info that say how an object in S3 is found and whose
 * credentials ask for it.
 * Runs in: the CLI.
 * Must not: read a credential: a recovery needs it too, so that only paths and names go on.
 */
import { homedir } from 'node:os';
import { resolve } from 'node:path';
import type { Target } from '../src/protocols/adapter.ts';
import type { AddressingStyle } from '../src/protocols/s3/endpoint.ts';
import type { S3Options } from '../src/protocols/s3/source.ts';
import { usageError } from './command.ts';

export const s3Options = {
  's3-endpoint': {
    type: 'string',
    requiresArg: true,
    describe: 'Web address of the S3 service, where it is not AWS',
  },
  's3-region': {
    type: 'string',
    requiresArg: true,
    describe: 'Region of the bucket [us-east-1, or what the service answers]',
  },
  's3-profile': {
    type: 'string',
    requiresArg: true,
    describe: 'Profile of the AWS files whose credentials are used',
  },
  's3-credentials-file': {
    type: 'string',
    requiresArg: true,
    describe: 'Credentials file of AWS [~/.aws/credentials]',
  },
  's3-config-file': {
    type: 'string',
    requiresArg: true,
    describe: 'Config file of AWS [~/.aws/config]',
  },
  's3-anonymous': {
    type: 'boolean',
    describe: 'Do not sign requests: the object is public',
  },
  's3-addressing-style': {
    choices: ['path', 'virtual'] as const,
    requiresArg: true,
    describe: 'Where the bucket stands in an address [path with --s3-endpoint, else virtual]',
  },
} as const;

export interface S3Arguments {
  readonly 's3-endpoint': string | undefined;
  readonly 's3-region': string | undefined;
  readonly 's3-profile': string | undefined;
  readonly 's3-credentials-file': string | undefined;
  readonly 's3-config-file': string | undefined;
  readonly 's3-anonymous': boolean | undefined;
  readonly 's3-addressing-style': AddressingStyle | undefined;
}

/**
 * `env`: what of the environment counts, which is nothing for a device that outlives this process.
 * Throws UNBD_USAGE where an option is wrong or the target is not in S3.
 */
export async function s3ConnectOptions(
  args: S3Arguments,
  { kind }: Target,
  env: NodeJS.ProcessEnv,
): Promise<S3Options | undefined> {
  if (kind !== 's3') {
    const names = Object.keys(s3Options) as (keyof S3Arguments)[];
    const given = names.find((name) => args[name] !== undefined);
    if (given === undefined) return undefined;
    throw usageError(`--${given} is for S3 images`, 'leave it out, or name a target s3://…');
  }
  const { isRegion, parseEndpoint } = await import('../src/protocols/s3/endpoint.ts');
  const endpoint = args['s3-endpoint'] ?? env.AWS_ENDPOINT_URL_S3 ?? env.AWS_ENDPOINT_URL;
  const region = args['s3-region'] ?? env.AWS_REGION ?? env.AWS_DEFAULT_REGION;
  if (region !== undefined && !isRegion(region)) {
    throw usageError(`s3-region '${region}' is not a region`, 'write it as eu-west-1');
  }
  return {
    ...(endpoint === undefined ? {} : { endpoint: parseEndpoint(endpoint) }),
    ...(region === undefined ? {} : { region }),
    ...pair('addressingStyle', args['s3-addressing-style']),
    ...credentialOptions(args),
  };
}

function credentialOptions(args: S3Arguments): S3Options {
  const { 's3-profile': profile, 's3-anonymous': anonymous } = args;
  const credentialsFile = args['s3-credentials-file'];
  const configFile = args['s3-config-file'];
  const isNamed = [profile, credentialsFile, configFile].some((name) => name !== undefined);
  if (anonymous === true) {
    if (!isNamed) return { anonymous };
    throw usageError('--s3-anonymous uses no credentials', 'leave out the profile and the files');
  }
  if (profile === '') throw usageError('--s3-profile names no profile', 'write --s3-profile NAME');
  return {
    // The server process has the home of whoever started the controller.
    home: homedir(),
    ...pair('profile', profile),
    ...(credentialsFile === undefined ? {} : { credentialsFile: resolve(credentialsFile) }),
    ...(configFile === undefined ? {} : { configFile: resolve(configFile) }),
  };
}

function pair<Name extends string, Value>(
  name: Name,
  value: Value | undefined,
): { [name in Name]?: Value } {
  return (value === undefined ? {} : { [name]: value }) as { [name in Name]?: Value };
}
