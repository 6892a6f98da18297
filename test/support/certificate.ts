/**
 * Owns: a certificate authority of a test's own, and a certificate for 127.0.0.1 that it signed.
 * Runs in: device test processes; openssl is a program of its own.
 * Must not: make a certificate that outlives the day.
 */
import { must } from './process.ts';
import type { Scope } from './scope.ts';

/** Paths of PEM files. */
export interface Certificate {
  /** The authority's: what --ca-file names. */
  readonly authority: string;
  /** Of 127.0.0.1. */
  readonly own: string;
  readonly key: string;
}

export async function makeCertificate(scope: Scope): Promise<Certificate> {
  const [authority, own] = [scope.path('authority.pem'), scope.path('own.pem')];
  const keyOf = (certificate: string): string => `${certificate}.key`;
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const make = (path: string, ...words: readonly string[]): Promise<string> =>
    must(['openssl', 'req', '-x509', ...kind, '-keyout', keyOf(path), '-out', path, ...words]);
  await make(authority, '-days', '1', '-subj', '/CN=authority');
  const names = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const isLeaf = ['-addext', 'basicConstraints=critical,CA:FALSE'];
  const signer = ['-CA', authority, '-CAkey', keyOf(authority)];
  await make(own, '-days', '1', ...names, ...isLeaf, ...signer);
  return { authority, own, key: keyOf(own) };
}
