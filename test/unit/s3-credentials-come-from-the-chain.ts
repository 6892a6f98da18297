/**
 * Claim: credentials come from the profile that was named, else from what the AWS SDK finds, read
 * anew by each call; and what fails is told without what a file or a program said.
 * Method: files and programs of the test's own, with the real SDK.
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { credentialChain } from '../../src/protocols/s3/chain.ts';
import { awsHome, SECRET, withEnvironment } from '../support/aws.ts';
import { failure } from '../support/http-origin.ts';

const keys = (id: string) => `aws_access_key_id = ${id}\naws_secret_access_key = ${SECRET}\n`;

t.test('the default profile of the home is used, or the one that was named', async (t) => {
  const files = awsHome(t, `[default]\n${keys('AKDEFAULT')}[other]\n${keys('AKOTHER')}`);
  t.strictSame(await credentialChain({ home: files.home })(), {
    accessKeyId: 'AKDEFAULT',
    secretAccessKey: SECRET,
  });
  const named = { home: files.home, profile: 'other' };
  t.match(await credentialChain(named)(), { accessKeyId: 'AKOTHER' });
});

t.test('files elsewhere are used, and read again by the next call', async (t) => {
  const { credentialsFile } = awsHome(t, `[default]\n${keys('AKONE')}`);
  const chain = credentialChain({ home: '/nowhere', credentialsFile });
  t.match(await chain(), { accessKeyId: 'AKONE' });
  writeFileSync(credentialsFile, `[default]\n${keys('AKTWO')}aws_session_token = t+/=\n`);
  t.match(await chain(), { accessKeyId: 'AKTWO', sessionToken: 't+/=' });
});

t.test('fetches at the same time do not see each other', async (t) => {
  const ids = ['AKONE', 'AKTWO', 'AKTHREE'];
  const before = { ...process.env };
  const config = '[profile p]\ncredential_process = cat ~/session\n';
  const homes = ids.map((id) => {
    const keys = { AccessKeyId: id, SecretAccessKey: SECRET };
    return [id, { '.aws': { config }, session: JSON.stringify({ Version: 1, ...keys }) }] as const;
  });
  const folder = t.testdir(Object.fromEntries(homes));
  const chains = ids.map((id) => credentialChain({ home: join(folder, id), profile: 'p' }));
  const found = await Promise.all(chains.map((chain) => chain()));
  t.strictSame(
    found.map(({ accessKeyId }) => accessKeyId),
    ids,
  );
  t.strictSame({ ...process.env }, before);
});

t.test('a program that a profile names hands out sessions', async (t) => {
  const files = awsHome(t, '');
  const count = join(files.home, 'count');
  const program = join(files.home, 'session.sh');
  const session = JSON.stringify({
    ...{ Version: 1, AccessKeyId: `AK$(wc -l < ${count})`, SecretAccessKey: SECRET },
    SessionToken: '$(printenv AWS_PROFILE || echo none)',
    Expiration: '2100-01-01T00:00:00Z',
  });
  writeFileSync(program, `echo >> ${count}\ncat << END\n${session}\nEND\n`);
  writeFileSync(files.configFile, `[profile p]\ncredential_process = sh ${program}\n`);
  const chain = credentialChain({ ...files, profile: 'p' });
  const expiration = new Date('2100-01-01T00:00:00Z');
  const first = { accessKeyId: 'AK1', sessionToken: 'none', expiration };
  t.match(await chain(), first, 'and finds no profile that it did not choose');
  t.match(await chain(), { accessKeyId: 'AK2' });
});

t.test('variables of the environment count, but not against a profile', async (t) => {
  const files = awsHome(t, `[named]\n${keys('AKNAMED')}`);
  const variables = { AWS_ACCESS_KEY_ID: 'AKVARIABLE', AWS_SECRET_ACCESS_KEY: SECRET };
  await withEnvironment(variables, async () => {
    t.match(await credentialChain({ home: files.home })(), { accessKeyId: 'AKVARIABLE' });
    const named = { home: files.home, profile: 'named' };
    t.match(await credentialChain(named)(), { accessKeyId: 'AKNAMED' });
    await withEnvironment({ AWS_PROFILE: 'named' }, async () => {
      t.match(await credentialChain({ home: files.home })(), { accessKeyId: 'AKNAMED' });
    });
    await withEnvironment({ AWS_PROFILE: '' }, async () => {
      t.match(await credentialChain({ home: files.home })(), { accessKeyId: 'AKVARIABLE' });
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
    const files = awsHome(t, '', config);
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
