/**
 * Goal: every documented form of TARGET means what the manual says, the canonical text names the
 * same target again, and what is malformed is refused with its reason, a cure and no secret.
 * Method: tables of text and meaning.
 */
import { resolve } from 'node:path';
import t from 'tap';
import type { Target } from '../../src/protocols/adapter.ts';
import { GatewayError } from '../../src/protocols/errors.ts';
import { endpointText, parseTarget } from '../../src/protocols/target.ts';

/** `endpoint|export`, short enough for a table. */
function summary(target: Target): string {
  if (target.kind === 'nbd') return `${endpointText(target.endpoint)}|${target.exportName}`;
  if (target.kind === 'http') return `http|${target.url}`;
  if (target.kind === 's3') return `s3|${target.bucket}|${target.key}|${target.versionId ?? ''}`;
  return target.kind === 'file' ? `file|${target.path}` : `${target.kind}|${target.sizeBytes}`;
}

const FORMS: readonly (readonly [text: string, meaning: string, canonical: string])[] = [
  ['host', 'host:10809|', 'nbd://host:10809'],
  ['host:1', 'host:1|', 'nbd://host:1'],
  ['host.example.org.:10809', 'host.example.org.:10809|', 'nbd://host.example.org.:10809'],
  ['nbd:10809', 'nbd:10809|', 'nbd://nbd:10809'],
  ['10.0.0.1', '10.0.0.1:10809|', 'nbd://10.0.0.1:10809'],
  ['host/', 'host:10809|', 'nbd://host:10809'],
  ['host:1/disk', 'host:1|disk', 'nbd://host:1/disk'],
  ['host//disk', 'host:10809|/disk', 'nbd://host:10809//disk'],
  ['host/a%20b', 'host:10809|a%20b', 'nbd://host:10809/a%2520b'],
  ['host/a b?c#d', 'host:10809|a b?c#d', 'nbd://host:10809/a%20b%3Fc%23d'],
  ['host/user@disk', 'host:10809|user@disk', 'nbd://host:10809/user%40disk'],
  ['::1', '[::1]:10809|', 'nbd://[::1]:10809'],
  ['::1/disk', '[::1]:10809|disk', 'nbd://[::1]:10809/disk'],
  ['[::1]', '[::1]:10809|', 'nbd://[::1]:10809'],
  ['[::1]:7/disk', '[::1]:7|disk', 'nbd://[::1]:7/disk'],
  ['[fe80::1%eth0]:7', '[fe80::1%eth0]:7|', 'nbd://[fe80::1%25eth0]:7'],
  ['fe80::1%eth0', '[fe80::1%eth0]:10809|', 'nbd://[fe80::1%25eth0]:10809'],
  ['nbd://', 'localhost:10809|', 'nbd://localhost:10809'],
  ['nbd://:7/disk', 'localhost:7|disk', 'nbd://localhost:7/disk'],
  ['nbd://host', 'host:10809|', 'nbd://host:10809'],
  ['nbd://host:/disk', 'host:10809|disk', 'nbd://host:10809/disk'],
  ['NBD://host/Disk', 'host:10809|Disk', 'nbd://host:10809/Disk'],
  ['nbd://host/hello%20world', 'host:10809|hello world', 'nbd://host:10809/hello%20world'],
  ['nbd://host//disk', 'host:10809|/disk', 'nbd://host:10809//disk'],
  ['nbd://host/%C3%A9', 'host:10809|é', 'nbd://host:10809/%C3%A9'],
  ['nbd://[fe80::1%25eth0]/d', '[fe80::1%eth0]:10809|d', 'nbd://[fe80::1%25eth0]:10809/d'],
  ['nbd+unix:///d?socket=/run/s', 'unix:/run/s|d', 'nbd+unix:///d?socket=/run/s'],
  ['nbd+unix://?socket=/run/s', 'unix:/run/s|', 'nbd+unix:///?socket=/run/s'],
  ['nbd+unix:///?socket=%00/name', 'unix:@/name|', 'nbd+unix:///?socket=%00/name'],
  ['nbd+unix:///?socket=/a%20b%26', 'unix:/a b&|', 'nbd+unix:///?socket=/a%20b%26'],
  ['Nbd+Vsock://2/disk', 'vsock:2:10809|disk', 'nbd+vsock://2:10809/disk'],
  ['nbd+vsock://3:1234567890', 'vsock:3:1234567890|', 'nbd+vsock://3:1234567890'],
  ['s3://images/disk.img', 's3|images|disk.img|', 's3://images/disk.img'],
  ['S3://a.b-c/d/e', 's3|a.b-c|d/e|', 's3://a.b-c/d/e'],
  ['s3://images//a', 's3|images|/a|', 's3://images//a'],
  ['s3://images/a b', 's3|images|a b|', 's3://images/a%20b'],
  ['s3://images/%C3%A9%3F%23%25', 's3|images|é?#%|', 's3://images/%C3%A9%3F%23%25'],
  ["s3://images/(a)'+=", "s3|images|(a)'+=|", 's3://images/%28a%29%27%2B%3D'],
  ['s3://images/a?versionId=b.c-_1', 's3|images|a|b.c-_1', 's3://images/a?versionId=b.c-_1'],
  ['s3://images/a?versionId=b%2Bc', 's3|images|a|b+c', 's3://images/a?versionId=b%2Bc'],
  ['null:512', 'null|512', 'null:512'],
  ['null:1000K', 'null|1024000', 'null:1000K'],
  ['NULL:2m', 'null|2097152', 'null:2M'],
  ['memory:1073741824', 'memory|1073741824', 'memory:1G'],
  ['memory:2T', 'memory|2199023255552', 'memory:2T'],
  ['file:/a/../b', 'file|/b', 'file:/b'],
  ['file:a%20b', `file|${resolve('a%20b')}`, `file:${resolve('a%20b')}`],
  ['file:///a%20b', 'file|/a b', 'file:/a b'],
  ['file://localhost/b', 'file|/b', 'file:/b'],
  ['http://host', 'http|http://host/', 'http://host/'],
  ['HTTP://Host:80/Image', 'http|http://host/Image', 'http://host/Image'],
  ['https://host:443/a%20b/é', 'http|https://host/a%20b/%C3%A9', 'https://host/a%20b/%C3%A9'],
  [
    'https://[::1]:8443/user@disk',
    'http|https://[::1]:8443/user@disk',
    'https://[::1]:8443/user@disk',
  ],
];

t.test('every form has its meaning, and its canonical text the same one', async (t) => {
  for (const [text, meaning, canonical] of FORMS) {
    const target = parseTarget(text);
    t.equal(summary(target), meaning, text);
    t.equal(target.text, canonical, `${text} in canonical form`);
    t.same(parseTarget(target.text), target, `${target.text} is the same target`);
  }
  const relative = parseTarget('nbd+unix:///?socket=run/s');
  t.equal(summary(relative), `unix:${resolve('run/s')}|`, 'a socket path becomes absolute');
});

const LONG_NAME = 'x'.repeat(4097);

const REFUSED: readonly (readonly [text: string, line: RegExp])[] = [
  ['', /is empty/],
  ['/dev/sda', /names no host.*file:/],
  ['./image', /names no host.*file:/],
  ['host:', /port is not valid/],
  ['host:0', /port is not valid/],
  ['host:65536', /port is not valid/],
  ['host:nbd', /port is not valid/],
  ['host:-1', /port is not valid/],
  [':10809', /names no host/],
  ['10809', /not an IPv4 address/],
  ['10.0.0.256', /not an IPv4 address/],
  ['ho st', /host name is not valid/],
  ['-host', /host name is not valid/],
  ['höst', /host name is not valid.*ASCII/],
  [`${'h'.repeat(254)}`, /host name is not valid/],
  ['a:b:c', /IPv6 address is not valid/],
  ['[::1', /host name is not valid|IPv6 address is not valid/],
  ['[host]:1', /IPv6 address is not valid/],
  ['[::1]1', /not valid/],
  ['[fe80::1%]:1', /IPv6/],
  ['[fe80::1%a/b]', /IPv6|not valid/],
  ['nbd://::1/disk', /no brackets/],
  ['user@host', /user name/],
  ['nbd://user:secret@host/disk', /user name/],
  ['nbd:unix:/run/s', /not an NBD URI/],
  ['unix:/run/s', /nbd\+unix:/],
  ['nbd://host/disk#1', /fragment/],
  ['nbd://host/a b', /space/],
  ['nbd://host/%zz', /%-encoding/],
  ['nbd://host/%ff', /%-encoding.*UTF-8/],
  ['nbd://host/a%00b', /NUL/],
  [`nbd://host/${LONG_NAME}`, /4096/],
  [`host/${LONG_NAME}`, /4096/],
  ['nbd://host/?socket=/run/s', /belongs to nbd\+unix/],
  ['nbd://host/?tls-type=x509', /TLS is not supported/],
  ['nbd://host/?x=1', /unknown key "x"/],
  ['nbd+unix:///disk', /names no socket/],
  ['nbd+unix:///?socket=', /names no socket/],
  ['nbd+unix:///?socket=%00', /names no socket/],
  ['nbd+unix:///?socket=/a%00b', /NUL/],
  ['nbd+unix:///?socket=/a&socket=/b', /twice/],
  ['nbd+unix:///?socket=/a&mode=1', /unknown key "mode".*known: socket/],
  ['nbd+unix://host/?socket=/a', /no host/],
  [`nbd+unix:///?socket=/${'s'.repeat(107)}`, /too long/],
  ['nbd+vsock:///disk', /vsock address/],
  ['nbd+vsock://host/disk', /vsock address/],
  ['nbd+vsock://0/disk', /vsock address/],
  ['nbd+vsock://4294967295/disk', /vsock address/],
  ['nbd+vsock://2:4294967295/disk', /vsock address/],
  ['nbds://host/disk', /TLS is not supported yet/],
  ['NBDS+UNIX:///?socket=/a', /TLS is not supported yet/],
  ['nbds+vsock://2/', /TLS is not supported yet/],
  ['nbd+tcp://host', /write nbd:/],
  ['nbd+ssh://host', /not supported/],
  ['http://', /not a web address/],
  ['http:///image', /not a web address/],
  ['http://host:65536/image', /not a web address/],
  ['http://host:0/image', /port is not valid/],
  ['https://[::1/image', /not a web address/],
  ['https://ho st/image', /space/],
  ['https://host/a\\b', /backslash/],
  ['https://host/image#1', /fragment/],
  ['https://host/image?…', /query is left out.*whole address/],
  ['https://user@host/image', /user name or password.*--header-file/],
  ['s3://', /names no bucket/],
  ['s3:///key', /names no bucket/],
  ['s3://bucket', /names no key/],
  ['s3://bucket/', /names no key/],
  ['s3://arn:aws:s3:::bucket/key', /names no bucket/],
  ['s3://-bucket/key', /names no bucket/],
  ['s3://bucket--usw2-az1--x-s3/key', /S3 Express/],
  ['s3://bucket/a/../b', /part \. or \.\./],
  ['s3://bucket/%2E%2e/b', /part \. or \.\./],
  ['s3://bucket/a%00b', /NUL/],
  ['s3://bucket/a%', /%-encoding/],
  [`s3://bucket/${'a'.repeat(1025)}`, /1024 bytes/],
  ['s3://bucket/key#part', /fragment/],
  ['s3://bucket/key?', /more than versionId/],
  ['s3://bucket/key?versionId=', /versionId is not one/],
  ['s3://bucket/key?versionId=a%0Ab', /versionId is not one/],
  ['s3://bucket/key?versionId=a&versionId=b', /more than versionId/],
  ['s3://bucket/key?X-Amz-Expires=1', /more than versionId/],
  ['iscsi://host', /iscsi:\/\/ is unknown/],
  ['constructor://host', /constructor:\/\/ is unknown/],
  ['null:', /size is not a number/],
  ['null:0', /size is 0/],
  ['null:-1', /size is not a number/],
  ['null:1.5G', /size is not a number/],
  ['null:1GiB', /size is not a number/],
  ['memory:9007199254740993T', /2\^63/],
  ['memory:9223372036854775808', /2\^63/],
  ['file:', /names no file/],
  ['file://host/image', /on this machine/],
  ['file:///a%00b', /NUL/],
];

function refusal(text: string, exportName?: string): GatewayError {
  try {
    parseTarget(text, exportName === undefined ? {} : { exportName });
  } catch (error) {
    if (error instanceof GatewayError) return error;
  }
  throw new Error(`"${text}" was not refused`);
}

t.test('what is malformed is refused with its reason and a cure', async (t) => {
  for (const [text, line] of REFUSED) {
    const error = refusal(text);
    t.equal(error.code, 'UNBD_TARGET_MALFORMED', text.slice(0, 60));
    t.match(error.line, line);
    t.ok(error.hint, 'has a cure');
    t.ok(error.line.length < 500, 'is short');
  }
});

t.test('a refusal repeats no secret', async (t) => {
  for (const text of [
    'nbd://user:secret@host/disk',
    'user:secret@host',
    'https://host/image?X-Amz-Signature=secret#',
    'https://host:0/image?X-Amz-Signature=secret',
    'https://host:x/image?X-Amz-Signature=secret',
    'https://host/image?X-Amz-Signature=secret and',
    'https://user:secret@host/image',
    'https://secret@host/image#1',
    'https://user:p/secret@host/image',
    'https://@secret:@host/image',
    's3://user:secret@bucket/key',
    's3://bucket/key?X-Amz-Signature=secret',
    'foo://u:secret@host',
  ]) {
    t.notMatch(refusal(text).line, /secret/, text);
  }
});

t.test('the query of a web address is kept, and never shown', async (t) => {
  const target = parseTarget('https://host/image?X-Amz-Signature=a%2Fb&x=@');
  t.equal(summary(target), 'http|https://host/image?X-Amz-Signature=a%2Fb&x=@');
  t.equal(target.text, 'https://host/image?…');
});

t.test('-N and the target may not contradict each other', async (t) => {
  t.equal(summary(parseTarget('host', { exportName: 'a/b' })), 'host:10809|a/b');
  t.equal(summary(parseTarget('host/disk', { exportName: 'disk' })), 'host:10809|disk');
  t.equal(summary(parseTarget('nbd://host/', { exportName: 'd' })), 'host:10809|d');
  t.equal(summary(parseTarget('host', { exportName: '' })), 'host:10809|');
  t.match(refusal('host/disk', 'other').line, /another export than -N/);
  t.match(refusal('host/disk', '').line, /another export than -N/);
  t.match(refusal('null:1M', 'disk').line, /no exports.*leave out -N/);
  t.match(refusal('https://host/image?secret', 'disk').line, /no exports.*leave out -N/);
  t.notMatch(refusal('https://host/image?secret', 'disk').line, /secret/);
  t.match(refusal('host', 'a\0b').line, /NUL/);
});
