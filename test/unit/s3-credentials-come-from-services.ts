/**
 * Claim: where credentials are another service's to give (of the instance, of the container, of
 * STS, of single sign-on), it is asked as it wants to be, at each call anew, and what it refuses is
 * told without what it said.
 * Method: such services of the test's own, found by the variables and the files that name real
 * ones, with the real SDK.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { credentialChain } from '../../src/protocols/s3/chain.ts';
import { awsHome, awsService, SECRET, withEnvironment } from '../support/aws.ts';
import { failure } from '../support/http-origin.ts';

const SESSION = JSON.stringify({
  ...{ Code: 'Success', AccessKeyId: 'AKROLE', SecretAccessKey: SECRET, Token: 't' },
  Expiration: '2100-01-01T00:00:00Z',
});

t.test('an instance has a role by IMDSv2, a container by its own service', async (t) => {
  const { home: folder } = awsHome(t, '');
  const imds = await awsService(t, (method, url, headers) => {
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
  const container = await awsService(t, (_method, url) => (url === '/role' ? SESSION : ''));
  await withEnvironment({ AWS_CONTAINER_CREDENTIALS_FULL_URI: `${container}/role` }, async () => {
    t.match(await credentialChain({ home: folder })(), { accessKeyId: 'AKROLE' });
  });
});

const QUERY_ANSWER = (id: string) => `<AssumeRoleWithWebIdentityResponse
  xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>
  <AccessKeyId>${id}</AccessKeyId><SecretAccessKey>${SECRET}</SecretAccessKey>
  <SessionToken>t</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration>
  </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`;

t.test('a token of another identity is changed for a role, and read again', async (t) => {
  const files = awsHome(t, '');
  const tokenFile = join(files.home, 'token');
  writeFileSync(tokenFile, 'first');
  const sts = await awsService(t, (_method, _url, _headers, body) => {
    const form = new URLSearchParams(body);
    const isRole = form.get('RoleArn') === 'arn:aws:iam::1:role/reader';
    if (form.get('Action') !== 'AssumeRoleWithWebIdentity' || !isRole) return '';
    return QUERY_ANSWER(`AK-${form.get('WebIdentityToken')}`);
  });
  writeFileSync(
    files.configFile,
    `[profile p]\nrole_arn = arn:aws:iam::1:role/reader\nweb_identity_token_file = ${tokenFile}\n` +
      'region = eu-west-1\n',
  );
  const chain = credentialChain({ ...files, profile: 'p' });
  const expiration = new Date('2100-01-01T00:00:00Z');
  await withEnvironment({ AWS_ENDPOINT_URL_STS: sts }, async () => {
    t.match(await chain(), { accessKeyId: 'AK-first', sessionToken: 't', expiration });
    writeFileSync(tokenFile, 'second');
    t.match(await chain(), { accessKeyId: 'AK-second' });
  });
});

t.test('a session of single sign-on is changed for a role, as long as it lasts', async (t) => {
  let refusal = '';
  const portal = await awsService(t, (_method, url, headers) => {
    if (refusal !== '') return { refusal };
    if (headers['x-amz-sso_bearer_token'] !== 'sso-token') return '';
    const roleCredentials = {
      ...{ accessKeyId: 'AKSSO', secretAccessKey: SECRET, sessionToken: 't' },
      expiration: Date.parse('2100-01-01T00:00:00Z'),
    };
    const isRole = url.startsWith('/federation/') && url.includes('role_name=reader');
    return isRole ? JSON.stringify({ roleCredentials }) : '';
  });
  const { home: folder } = awsHome(
    t,
    '',
    '[profile p]\nsso_session = s\nsso_account_id = 1\nsso_role_name = reader\n' +
      'region = eu-west-1\n' +
      '[sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://sso.example\n',
  );
  const cache = join(folder, '.aws/sso/cache');
  const session = join(cache, `${createHash('sha1').update('s').digest('hex')}.json`);
  mkdirSync(cache, { recursive: true });
  const login = (expiresAt: string) =>
    writeFileSync(session, JSON.stringify({ accessToken: 'sso-token', expiresAt }));
  const chain = credentialChain({ home: folder, profile: 'p' });
  login('2100-01-01T00:00:00Z');
  const expiration = new Date('2100-01-01T00:00:00Z');
  await withEnvironment({ AWS_ENDPOINT_URL_SSO: portal }, async () => {
    t.match(await chain(), { accessKeyId: 'AKSSO', sessionToken: 't', expiration });
    login('2020-01-01T00:00:00Z');
    t.match((await failure(chain()))?.line, /single sign-on has ended.*aws sso login/);
    login('2100-01-01T00:00:00Z');
    refusal = JSON.stringify({ __type: 'UnauthorizedException', message: 'no such session' });
    t.match((await failure(chain()))?.line, /single sign-on has ended.*aws sso login/);
    refusal = JSON.stringify({ __type: 'ForbiddenException', message: SECRET });
    const forbidden = (await failure(chain()))?.line;
    t.match(forbidden, /their source failed/);
    t.notMatch(forbidden, SECRET);
  });
});
