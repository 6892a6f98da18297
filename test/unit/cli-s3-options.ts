/**
 * Claim: the options of images in S3 arrive as names and whole paths, without a secret and without
 * the environment, unless the device lives with its command.
 * Method: the command line in this process, over a gateway that records its calls.
 */
import { homedir } from 'node:os';
import { resolve } from 'node:path';
import t from 'tap';
import { cli, connectWith, deviceView } from '../support/cli.ts';

const TARGET = 's3://images/disk.img';
const home = homedir();

for (const name of Object.keys(process.env)) {
  if (name.startsWith('AWS_')) delete process.env[name];
}

t.test('they arrive, paths as seen from anywhere', async (t) => {
  const files = ['--s3-credentials-file', 'mine', '--s3-config-file', '/etc/aws'];
  const place = ['--s3-endpoint', 'https://ceph.example:8443/', '--s3-region', 'here'];
  const style = ['--s3-addressing-style', 'virtual', '--s3-profile', 'backup'];
  const { options } = await connectWith(TARGET, ...files, ...place, ...style, '--cache=/c');
  t.match(options, { target: { kind: 's3', bucket: 'images' }, cacheDirectory: '/c' });
  t.strictSame(options?.s3, {
    ...{ endpoint: 'https://ceph.example:8443', region: 'here', addressingStyle: 'virtual' },
    ...{ home, profile: 'backup', credentialsFile: resolve('mine'), configFile: '/etc/aws' },
  });
  t.strictSame((await connectWith(TARGET)).options?.s3, { home });
  t.strictSame((await connectWith(TARGET, '--s3-anonymous')).options?.s3, { anonymous: true });
});

t.test('the environment counts with --foreground and info alone', async (t) => {
  const variables = {
    AWS_ENDPOINT_URL_S3: 'http://127.0.0.1:9000',
    AWS_REGION: 'there',
    AWS_ACCESS_KEY_ID: 'AKSECRET',
    AWS_SECRET_ACCESS_KEY: 'hunter2',
  };
  Object.assign(process.env, variables);
  t.teardown(() => {
    for (const name of Object.keys(variables)) delete process.env[name];
  });
  const counted = { endpoint: 'http://127.0.0.1:9000', region: 'there', home };
  t.strictSame((await connectWith(TARGET)).options?.s3, { home });
  let seen: unknown;
  const connectForeground = async (options: { s3?: unknown }) => {
    seen = options.s3;
  };
  await cli(['connect', TARGET, '--foreground'], { gateway: { connectForeground } });
  t.strictSame(seen, counted);
  const info = async (_target: unknown, _signal: unknown, origin: { s3?: unknown }) => {
    seen = origin.s3;
    return { target: TARGET, backend: {} as never };
  };
  await cli(['info', TARGET, '--s3-region', 'here'], { gateway: { info: info as never } });
  t.strictSame(seen, { ...counted, region: 'here' });
});

const REFUSED: readonly (readonly [options: readonly string[], line: RegExp])[] = [
  [['--s3-endpoint=ceph.example'], /endpoint cannot be used.*https:\/\/HOST/],
  [['--s3-endpoint=ftp://ceph.example'], /not https or http/],
  [['--s3-endpoint=https://u:hunter2@ceph.example'], /user name or password/],
  [['--s3-endpoint=https://ceph.example/?a=hunter2'], /query/],
  [['--s3-region=eu west'], /not a region/],
  [['--s3-profile='], /names no profile/],
  [['--s3-anonymous', '--s3-profile=a'], /uses no credentials/],
  [['--s3-addressing-style=dns'], /not one of: path, virtual/],
  [['--header-file=x'], /--header-file is for HTTP images/],
];

t.test('what makes no sense is refused in one line', async (t) => {
  for (const [options, line] of REFUSED) {
    const { status, stderr, calls } = await connectWith(TARGET, ...options);
    t.equal(status, 2, options.join(' '));
    t.match(stderr, line);
    t.match(stderr, /^[^\n]+\[UNBD_USAGE\]\n$/);
    t.notMatch(stderr, 'hunter2');
    t.equal(calls, 0);
  }
  const { status, stderr } = await connectWith('https://host/a', '--s3-anonymous');
  t.equal(status, 2);
  t.match(stderr, /--s3-anonymous is for S3 images.*name a target s3:/);
});

t.test('mount passes them on as connect does', async (t) => {
  let seen: unknown;
  const mount = async ({ options }: { options: { s3?: unknown } }) => {
    seen = options.s3;
    return deviceView();
  };
  await cli(['mount', TARGET, '/mnt', '--s3-profile', 'a'], { gateway: { mount } });
  t.strictSame(seen, { home, profile: 'a' });
});
