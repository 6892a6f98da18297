/**
 * Claim: a device in S3 outlives the sessions of its credentials, whoever serves it; credentials of
 * the environment count with --foreground alone; and what was read is kept on disk by version.
 * Method: a service of the test's own that judges signatures and ends sessions when it is told to,
 * which no real one does; a program that hands out sessions; the server process killed -9.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { assertSameBytes, dropCaches, MIB, patternBytes } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { killServerProcess } from '../support/kills.ts';
import { shell, until } from '../support/process.ts';
import {
  assertRefused,
  connect,
  type Device,
  listed,
  startUblkNbd,
  ublkNbd,
} from '../support/product.ts';
import { type S3Origin, type S3State, startS3Origin } from '../support/s3-origin.ts';
import type { Scope } from '../support/scope.ts';
import { sha256Hex } from '../support/sigv4.ts';

const BYTES = patternBytes(0, 16 * MIB);
const SECRET = 'a/secret+key';
const TARGET = 's3://images/disk.img';

async function origin(scope: Scope, given: Partial<S3State> = {}): Promise<S3Origin> {
  const versions = [{ id: 'one', etag: '"v1"', bytes: BYTES }];
  const started = await startS3Origin({ versions, ...given });
  scope.defer(() => started.close());
  return started;
}

/** Sessions that a program prints; each has the number of its call. */
interface Sessions {
  readonly words: readonly string[];
  calls(): Promise<number>;
}

/** The service takes any of them until it is told that one is over. */
async function sessions(scope: Scope, { state }: S3Origin, lifeS: number): Promise<Sessions> {
  const calls = scope.path('calls');
  const program = scope.path('session.sh');
  const config = scope.path('config');
  writeFileSync(calls, '');
  const keys = `"AccessKeyId":"AK$n","SecretAccessKey":"${SECRET}","SessionToken":"token-$n"`;
  const lines = [
    `echo >> ${calls}; n=$(wc -l < ${calls})`,
    `end=$(date -u -d "+${lifeS} seconds" +%Y-%m-%dT%H:%M:%SZ)`,
    `cat << END\n{"Version":1,${keys},"Expiration":"$end"}\nEND\n`,
  ];
  writeFileSync(program, lines.join('\n'));
  writeFileSync(config, `[profile backup]\ncredential_process = sh ${program}\n`);
  for (let n = 1; n < 1000; n += 1) {
    state.keys.push({ id: `AK${n}`, secret: SECRET, token: `token-${n}` });
  }
  return {
    words: ['--s3-profile', 'backup', '--s3-config-file', config],
    calls: async () => Number(await shell(`wc -l < ${calls}`)),
  };
}

const PIECE_BYTES = 65_536;

/** A piece of the device by another process, since this one is the service. */
async function assertRight({ path }: Pick<Device, 'path'>, atMib: number): Promise<void> {
  const from = atMib * MIB;
  const read = `dd if=${path} bs=${PIECE_BYTES} count=1 skip=${from / PIECE_BYTES} iflag=direct`;
  const [sum] = (await shell(`${read} status=none | sha256sum`)).split(' ');
  assert.equal(sum, sha256Hex(BYTES.subarray(from, from + PIECE_BYTES)));
}

claim('a session that ends early or in its time is replaced, and no read fails', async (scope) => {
  const service = await origin(scope);
  const hourly = await sessions(scope, service, 3600);
  const endpoint = ['--s3-endpoint', service.base];
  const device = await connect(scope, TARGET, '--cache-memory', '4M', ...endpoint, ...hourly.words);
  await assertRight(device, 0);
  assert.equal(await hourly.calls(), 1);
  service.state.expiredTokens.push('token-1');
  await assertRight(device, 8);
  assert(service.answers.includes('ExpiredToken'), 'the service had ended it');
  assert.equal(await hourly.calls(), 2, 'the program was run once more');
  await killServerProcess(device);
  await dropCaches();
  await assertSameBytes(device.path, BYTES);
  assert.equal(await hourly.calls(), 3, 'a successor asks for itself');
  assert.equal((await listed(device.path)).state, 'CONNECTED');
  await device.disconnect();
});

claimToo('a short session is replaced before it ends', async (scope) => {
  const service = await origin(scope);
  const short = await sessions(scope, service, 8);
  const words = ['--s3-endpoint', service.base, '--cache-memory', '4M', ...short.words];
  const device = await connect(scope, TARGET, ...words);
  let at = 0;
  await until('the program was run three times', async () => {
    await assertRight(device, at % 16);
    at += 1;
    assert.equal((await listed(device.path)).state, 'CONNECTED');
    return (await short.calls()) >= 3;
  });
  await device.disconnect();
});

claimToo('the environment counts with --foreground alone', async (scope) => {
  const keys = [{ id: 'AKENV', secret: SECRET }];
  const service = await origin(scope, { keys });
  const config = scope.path('config');
  writeFileSync(config, '');
  const env = { AWS_ACCESS_KEY_ID: 'AKENV', AWS_SECRET_ACCESS_KEY: SECRET };
  const words = ['connect', TARGET, '--s3-endpoint', service.base];
  const named = ['--s3-profile', 'none', '--s3-config-file', config];
  const refused = await ublkNbd([...words, ...named], { env });
  assertRefused(refused, 'UNBD_EXPORT_REFUSED', 7, /profile none for S3: the files have none/);
  const running = startUblkNbd(scope, [...words, '--foreground'], { env });
  await until('it prints the path', () => /^\/dev\/ublkb\d+\n/.test(running.stdout()));
  const path = running.stdout().trim();
  await assertSameBytes(path, BYTES);
  assert.equal((await running.stop()).status, 0);
});

claimToo('what was read is on disk for the next device of the version alone', async (scope) => {
  const service = await origin(scope, { isPublic: true });
  const cache = ['--cache', scope.path('cache'), '--cache-memory', '32M'];
  const words = ['--s3-endpoint', service.base, '--s3-anonymous', ...cache];
  const asked = () => service.answers.filter((code) => code === '206').length;
  const first = await connect(scope, TARGET, ...words);
  await assertSameBytes(first.path, BYTES);
  await until('it is on disk', async () => {
    const counters = (await listed(first.path, '-v')).details?.counters;
    return Number(counters?.cachedBytes) === BYTES.length;
  });
  await first.disconnect();
  const before = asked();
  const second = await connect(scope, TARGET, ...words);
  await assertSameBytes(second.path, BYTES);
  assert.equal(asked(), before + 1, 'it was opened, and not read');
  await second.disconnect();
  const other = patternBytes(16 * MIB, 16 * MIB);
  service.state.versions.push({ id: 'two', etag: '"v2"', bytes: other });
  const third = await connect(scope, TARGET, ...words);
  await assertSameBytes(third.path, other);
  await third.disconnect();
});
