/**
 * Owns: where credentials of AWS come from: the chain of the AWS SDK, or the one profile that was
 * named; and what its failures mean.
 * Runs in: server processes and the CLI, on the JS main thread.
 * Must not: show what the SDK, or a program that a profile names, has printed: it may be a secret;
 * or load the SDK before credentials are wanted.
 */
import { access, constants } from 'node:fs/promises';
import { homedir } from 'node:os';
import { OneAtATime } from '../source/one-at-a-time.ts';
import { SourceError } from '../source/source-error.ts';
import type { AwsCredentials, FetchCredentials } from './credentials.ts';

/** Paths and names alone: they go to the registry, and a recovery reads them again. */
export interface ProfileOptions {
  /** A profile of the files; undefined: what the chain finds. */
  readonly profile?: string | undefined;
  /** As ~/.aws/credentials, and in place of it. */
  readonly credentialsFile?: string | undefined;
  /** As ~/.aws/config, and in place of it. */
  readonly configFile?: string | undefined;
  /** Whose ~/.aws it is; undefined: that of this process. */
  readonly home?: string | undefined;
}

const nothing = (): void => undefined;
/** The SDK warns on the console otherwise. */
const SILENT = { debug: nothing, info: nothing, warn: nothing, error: nothing };

/**
 * Files are read, programs are run and services are asked anew by each call, one after the other. A
 * profile that was named is the only source: another one could have other rights.
 */
export function credentialChain(options: ProfileOptions): FetchCredentials {
  const kind = JSON.stringify(options);
  return () => fetches.run(kind, () => inTurn(() => fetchNow(options)));
}

/** One that hangs is not begun a second time. */
const fetches = new OneAtATime<AwsCredentials>();

let lastTurn: Promise<unknown> = Promise.resolve();

/** The environment is all the process's: a fetch that was not waited for may still have it. */
function inTurn<T>(body: () => Promise<T>): Promise<T> {
  const turn = lastTurn.then(body);
  lastTurn = turn.catch(() => undefined);
  return turn;
}

async function fetchNow(options: ProfileOptions): Promise<AwsCredentials> {
  const { credentialsFile, configFile, home } = options;
  for (const path of [credentialsFile, configFile]) {
    if (path !== undefined) await checkFile(path);
  }
  const profile = options.profile ?? (process.env.AWS_PROFILE || undefined);
  const variables = {
    HOME: home ?? process.env.HOME ?? homedir(),
    AWS_SHARED_CREDENTIALS_FILE: credentialsFile,
    AWS_CONFIG_FILE: configFile,
    AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true',
  };
  try {
    return plain(await withVariables(variables, () => provide(profile)));
  } catch (error) {
    throw chainError(error, profile);
  }
}

/**
 * The SDK's clients of other services, which change one credential for another, learn in no other
 * way which files name their region. A program that a profile names inherits these variables, so
 * that none of them is AWS_PROFILE: it would ask for the profile that it is part of.
 */
async function withVariables<T>(
  variables: Readonly<Record<string, string | undefined>>,
  body: () => Promise<T>,
): Promise<T> {
  const given = Object.entries(variables).filter(([, value]) => value !== undefined);
  const before = given.map(([name]) => [name, process.env[name]] as const);
  for (const [name, value] of given) process.env[name] = value;
  try {
    return await body();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

async function provide(profile: string | undefined): Promise<AwsCredentials> {
  const init = { logger: SILENT, ignoreCache: true };
  if (profile !== undefined) {
    const { fromIni } = await import('@aws-sdk/credential-provider-ini');
    // For the region of those clients.
    const named = { parentClientConfig: { profile }, clientConfig: { profile } };
    return fromIni({ ...init, ...named, profile })();
  }
  const { defaultProvider } = await import('@aws-sdk/credential-provider-node');
  return defaultProvider(init)();
}

/** Without what the SDK keeps beside it. */
function plain(found: AwsCredentials): AwsCredentials {
  const { accessKeyId, secretAccessKey, sessionToken, expiration } = found;
  return {
    accessKeyId,
    secretAccessKey,
    ...(sessionToken === undefined ? {} : { sessionToken }),
    ...(expiration === undefined ? {} : { expiration }),
  };
}

async function checkFile(path: string): Promise<void> {
  try {
    await access(path, constants.R_OK);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const isForbidden = code === 'EACCES' || code === 'EPERM';
    throw new SourceError(
      isForbidden ? 'UNBD_NO_PERMISSION' : 'UNBD_USAGE',
      `the file of credentials ${path} cannot be read (${code})`,
      { hint: isForbidden ? 'run as root, or change its permissions' : 'check the path' },
    );
  }
}

/** What the SDK says, as far as it says nothing of its own finding. */
const CAUSES: readonly (readonly [told: RegExp, why: string, cure: string])[] = [
  [
    /credential_process did not return Version 1|returned invalid (JSON|credentials)/,
    'its credential_process printed no credentials',
    'run the program of credential_process by hand',
  ],
  [
    /credential_process returned expired/,
    'its credential_process gave credentials that have expired',
    'run the program of credential_process by hand',
  ],
  [/^Command failed/, 'its credential_process failed', 'run that program by hand'],
  [
    /aws sso login|^UnauthorizedException/,
    'its session of single sign-on has ended',
    'run: aws sso login',
  ],
  [
    /multi-factor/,
    'it wants a code of multi-factor authentication',
    'choose a profile without mfa_serial',
  ],
  [/cycle/, 'its profiles name each other in a circle', 'mend source_profile'],
];

function chainError(error: unknown, profile: string | undefined): SourceError {
  const { name = '', message = '' } = error as { name?: unknown; message?: unknown };
  const told = String(message);
  const subject = profile === undefined ? 'no credentials' : `no credentials of profile ${profile}`;
  const refused = (why: string, hint: string) =>
    new SourceError('UNBD_EXPORT_REFUSED', `${subject} for S3: ${why}`, { hint });
  if (/^Could not (resolve|load) credentials|could not be found/.test(told)) {
    const why = profile === undefined ? 'none were found' : 'the files have none';
    return refused(
      why,
      'name a profile with --s3-profile, or use --s3-anonymous for a public object; variables of ' +
        'the environment count with --foreground alone',
    );
  }
  const known = CAUSES.find(([pattern]) => pattern.test(told));
  if (known !== undefined) return refused(known[1], known[2]);
  const kind = String(name)
    .replace(/[^A-Za-z]/g, '')
    .slice(0, 60);
  return refused(`their source failed (${kind})`, 'try: aws sts get-caller-identity');
}
