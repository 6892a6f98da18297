/**
 * Claim: whatever is behind it, a device is a disk: it reads back what was written, to the byte, at
 * every alignment and length; it ends where it ends; and read-only is refused with EPERM.
 * Method: one suite over every adapter, random requests at several depths; a reference disk
 * decides, and the file behind it has the same bytes in the end.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { startNbdkit, startQemuNbd } from '../support/backends.ts';
import { MIB, patternBytes } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import { assertConforms, type Subject } from '../support/conformance.ts';
import { connect } from '../support/product.ts';
import { startS3Origin } from '../support/s3-origin.ts';
import type { Scope } from '../support/scope.ts';
import { startNginx } from '../support/web-servers.ts';

/** No whole number of pages, nor of chunks of the store. */
const SIZE_BYTES = 8 * MIB + 3 * 512;
const PATTERN = patternBytes(0, SIZE_BYTES);
const ZEROES = Buffer.alloc(SIZE_BYTES);

interface Adapter extends Omit<Subject, 'path'> {
  /** What `connect` takes. */
  readonly words: readonly string[];
  /** The file that has its bytes, where there is one. */
  readonly file?: string;
}

function patternFile(scope: Scope, name: string): string {
  const path = scope.path(name);
  writeFileSync(path, PATTERN);
  return path;
}

async function onFile(scope: Scope, target: (file: string) => Promise<string>): Promise<Adapter> {
  const file = patternFile(scope, 'disk.img');
  return { words: [await target(file)], content: PATTERN, kind: 'writable', file };
}

async function onNginx(scope: Scope, ...options: readonly string[]): Promise<Adapter> {
  mkdirSync(scope.path('www'));
  const file = patternFile(scope, 'www/disk.img');
  const { url } = await startNginx(scope, scope.path('www'));
  return { words: [url('disk.img'), ...options], content: PATTERN, kind: 'read-only', file };
}

async function onS3(scope: Scope): Promise<Adapter> {
  const versions = [{ id: 'null', etag: '"one"', bytes: PATTERN }];
  const service = await startS3Origin({ versions, isPublic: true });
  scope.defer(() => service.close());
  const place = ['--s3-endpoint', service.base, '--s3-anonymous', '--cache-memory', '4M'];
  return { words: ['s3://images/disk.img', ...place], content: PATTERN, kind: 'read-only' };
}

/** Another adapter is another line here. */
const ADAPTERS: Readonly<Record<string, (scope: Scope) => Promise<Adapter>>> = {
  NBD: (scope) => onFile(scope, async (file) => (await startNbdkit(scope, ['file', file])).target),
  'NBD with structured replies': async (scope) => {
    const target = async (file: string) => (await startQemuNbd(scope, file, 'raw')).target;
    const { words, ...adapter } = await onFile(scope, target);
    return { ...adapter, words: [...words, '--structured-replies'] };
  },
  null: async () => ({ words: [`null:${SIZE_BYTES}`], content: ZEROES, kind: 'null' }),
  memory: async () => ({ words: [`memory:${SIZE_BYTES}`], content: ZEROES, kind: 'writable' }),
  file: (scope) => onFile(scope, async (file) => `file:${file}`),
  'read-only file': async (scope) => ({
    ...(await onFile(scope, async (file) => `file:${file}`)),
    kind: 'read-only',
  }),
  HTTP: (scope) => onNginx(scope, '--cache-memory', '4M'),
  'HTTP with a cache on disk': (scope) =>
    onNginx(scope, '--cache-memory', '4M', '--cache', scope.path('cache')),
  'HTTP with a small fill unit, on disk too': (scope) => {
    const words = ['--cache-memory', '4M', '--fill-unit', '64K', '--cache', scope.path('cache')];
    return onNginx(scope, ...words);
  },
  S3: onS3,
};

for (const [name, make] of Object.entries(ADAPTERS)) {
  const claimIt = name === 'NBD' ? claim : claimToo;
  claimIt(`${name} conforms`, async (scope) => {
    const { words, content, kind, file } = await make(scope);
    const [target = '', ...options] = words;
    if (kind === 'read-only') options.push('--read-only');
    const device = await connect(scope, target, ...options);
    const reference = await assertConforms({ path: device.path, content, kind });
    await device.disconnect();
    if (file !== undefined) reference.check(0, readFileSync(file));
  });
}
