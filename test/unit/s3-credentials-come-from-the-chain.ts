/**
 * Claim: credentials come from the profile that was named, else from what the AWS SDK finds, read
 * anew by each call; and what fails is told without what a file or a program said.
 * Method: files, programs and services of the test's own, with the real SDK.
 */

import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { credentialChain } from '../../src/protocols/s3/chain.ts';
import { failure } from '../support/http-origin.ts';

const SECRET = 'hunter2/hunter2+hunter2';

// Nothing of this machine, and no service of a cloud that it may run in.
for (const name of Object.keys(process.env)) {
  if (name.startsWith('AWS_')) delete process.env[name];
}
process.env.AWS_EC2_METADATA_DISABLED = 'true';

/** A home with `.aws`; the files' paths too. */
function home(t: Test, credentials: string, config = '') {
  const folder = t.testdir({ '.aws': { credentials, config } });
  const credentialsFile = join(folder, '.aws/credentials');
  return { home: folder, credentialsFile, configFile: join(folder, '.aws/config') };
}

const keys = (id: string) => `aws_access_key_id = ${id}\naws_secret_access_key = ${SECRET}\n`;

t.test('the default profile of the home is used, or the one that was named', async (t) => {
  const files = home(t, `[default]\n${keys('AKDEFAULT')}[other]\n${keys('AKOTHER')}`);
  t.strictSame(await credentialChain({ home: files.home })(), {
    accessKeyId: 'AKDEFAULT',
    secretAccessKey: SECRET,
  });
  const named = { home: files.home, profile: 'other' };
  t.match(await credentialChain(named)(), { accessKeyId: 'AKOTHER' });
});

t.test('files elsewhere are used, and read again by the next call', async (t) => {
  const { credentialsFile } = home(t, `[default]\n${keys('AKONE')}`);
  const chain = credentialChain({ home: '/nowhere', credentialsFile });
  t.match(await chain(), { accessKeyId: 'AKONE' });
  writeFileSync(credentialsFile, `[default]\n${keys('AKTWO')}aws_session_token = t+/=\n`);
  t.match(await chain(), { accessKeyId: 'AKTWO', sessionToken: 't+/=' });
});

t.test('a program that a profile names hands out sessions', async (t) => {
  const files = home(t, '');
  const count = join(files.home, 'count');
  const program = join(files.home, 'session.sh');
  const session = JSON.stringify({
    ...{ Version: 1, AccessKeyId: `AK$(wc -l < ${count})`, SecretAccessKey: SECRET },
    ...{ SessionToken: 't', Expiration: '2100-01-01T00:00:00Z' },
  });
  writeFileSync(program, `echo >> ${count}\ncat << END\n${session}\nEND\n`);
  writeFileSync(files.configFile, `[profile p]\ncredential_process = sh ${program}\n`);
  const chain = credentialChain({ ...files, profile: 'p' });
  const expiration = new Date('2100-01-01T00:00:00Z');
  t.match(await chain(), { accessKeyId: 'AK1', sessionToken: 't', expiration });
  t.match(await chain(), { accessKeyId: 'AK2' });
});

/** A web server that gives `body` to whoever knows the header. */
async function service(
  t: Test,
  answer: (method: string, url: string, headers: NodeJS.Dict<string | string[]>) => string,
): Promise<string> {
  const server = createServer(({ method = '', url = '', headers }, response) => {
    const body = answer(method, url, headers);
    if (body === '') response.writeHead(401);
    response.end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const SESSION = JSON.stringify({
  ...{ Code: 'Success', AccessKeyId: 'AKROLE', SecretAccessKey: SECRET, Token: 't' },
  Expiration: '2100-01-01T00:00:00Z',
});

/** Sets variables for the time of `body`. */
async function withEnvironment(
  variables: Record<string, string>,
  body: () => Promise<void>,
): Promise<void> {
  Object.assign(process.env, variables);
  try {
    await body();
  } finally {
    for (const name of Object.keys(variables)) delete process.env[name];
  }
}

t.test('an instance has a role by IMDSv2, a container by its own service', async (t) => {
  const { home: folder } = home(t, '');
  const imds = await service(t, (method, url, headers) => {
    if (method === 'PUT' && url === '/latest/api/token') return 'imds-token';
    if (headers['x-aws-ec2-metadata-token'] !== 'imds-token') return '';
    return url.endsWith('/security-credentials/') ? 'role' : SESSION;
  });
  delete process.env.AWS_EC2_METADATA_DISABLED;
  await withEnvironment({ AWS_EC2_METADATA_SERVICE_ENDPOINT: imds }, async () => {
    t.match(await credentialChain({ home: folder })(), {
      accessKeyId: 'AKROLE',
      sessionToken: 't',
    });
  });
  process.env.AWS_EC2_METADATA_DISABLED = 'true';
  const container = await service(t, (_method, url) => (url === '/role' ? SESSION : ''));
  await withEnvironment({ AWS_CONTAINER_CREDENTIALS_FULL_URI: `${container}/role` }, async () => {
    t.match(await credentialChain({ home: folder })(), { accessKeyId: 'AKROLE' });
  });
});

t.test('variables of the environment count, but not against a profile', async (t) => {
  const files = home(t, `[named]\n${keys('AKNAMED')}`);
  const variables = { AWS_ACCESS_KEY_ID: 'AKVARIABLE', AWS_SECRET_ACCESS_KEY: SECRET };
  await withEnvironment(variables, async () => {
    t.match(await credentialChain({ home: files.home })(), { accessKeyId: 'AKVARIABLE' });
    const named = { home: files.home, profile: 'named' };
    t.match(await credentialChain(named)(), { accessKeyId: 'AKNAMED' });
    await withEnvironment({ AWS_PROFILE: 'named' }, async () => {
      t.match(await credentialChain({ home: files.home })(), { accessKeyId: 'AKNAMED' });
    });
    const missing = { home: files.home, profile: 'missing' };
    t.match(
      (await failure(credentialChain(missing)()))?.line,
      /profile missing.*the files have none/,
    );
  });
});

const FAILURES: readonly (readonly [config: string, profile: string | undefined, line: RegExp])[] =
  [
    ['', undefined, /none were found.*--s3-anonymous.*--foreground/],
    ['', 'p', /profile p .*the files have none/],
    [`[profile p]\ncredential_process = echo ${SECRET}\n`, 'p', /printed no credentials/],
    [
      `[profile p]\ncredential_process = echo ${SECRET} >&2; exit 3\n`,
      'p',
      /credential_process failed/,
    ],
    ['[profile p]\ncredential_process = echo {"Version":2}\n', 'p', /printed no credentials/],
    [
      '[profile p]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n' +
        '[sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://sso.example\n',
      'p',
      /single sign-on has ended.*aws sso login/,
    ],
    [
      '[profile p]\nrole_arn = arn\nsource_profile = q\nmfa_serial = m\n' +
        `[profile q]\n${keys('AK')}`,
      'p',
      /multi-factor/,
    ],
    ['[profile p]\nrole_arn = arn\nsource_profile = p\n', 'p', /circle|source failed/],
  ];

t.test('what fails is told in one line, without what was found', async (t) => {
  for (const [config, profile, line] of FAILURES) {
    const files = home(t, '', config);
    const error = await failure(credentialChain({ ...files, profile })());
    t.match(error?.line, line, config);
    t.equal(error?.code, 'UNBD_EXPORT_REFUSED');
    t.notMatch(error?.line, SECRET);
    t.equal(error?.cause, undefined);
  }
  const files = { credentialsFile: '/nowhere/credentials' };
  const error = await failure(credentialChain(files)());
  t.match(error?.line, /\/nowhere\/credentials cannot be read \(ENOENT\).*UNBD_USAGE/);
});
