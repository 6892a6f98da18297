/**
 * Owns: the one radosgw of a test file, and the options with which the CLI reads from it.
 * Runs in: device test processes, as root.
 * Must not: start a second cluster: it takes longer to start than a test with it.
 */
import { writeFileSync } from 'node:fs';
import { after } from 'node:test';
import { type Radosgw, startRadosgw } from './radosgw.ts';
import { Scope } from './scope.ts';

/** Emulated processors take their time to start a cluster. */
export const SLOWLY = { timeoutMs: 1_200_000 };

export interface S3World {
  readonly radosgw: Radosgw;
  /** Where radosgw is, and the credentials that it knows. */
  readonly words: readonly string[];
  /** The same with a file of credentials of these words. */
  wordsWith(secret: string, id?: string): readonly string[];
  /** The same with something in front of radosgw. */
  wordsAt(endpoint: string): readonly string[];
}

/** Of all tests of the file. */
const ofAll = new Scope();
let started: Promise<Radosgw> | undefined;
after(() => ofAll.close());

export async function s3World(scope: Scope): Promise<S3World> {
  started ??= startRadosgw(ofAll);
  const radosgw = await started;
  const { id: knownId, secret: knownSecret } = radosgw.keys;
  const words = (endpoint: string, id: string, secret: string): readonly string[] => {
    const path = scope.path(`credentials-${Math.random().toString(36).slice(2)}`);
    const keys = `aws_access_key_id = ${id}\naws_secret_access_key = ${secret}\n`;
    writeFileSync(path, `[backup]\n${keys}`, { mode: 0o600 });
    const profile = ['--s3-profile', 'backup', '--s3-credentials-file', path];
    return ['--s3-endpoint', endpoint, ...profile];
  };
  return {
    radosgw,
    words: words(radosgw.endpoint, knownId, knownSecret),
    wordsWith: (secret, id = knownId) => words(radosgw.endpoint, id, secret),
    wordsAt: (endpoint) => words(endpoint, knownId, knownSecret),
  };
}
