/**
 * Owns: the version of the package that this process was loaded from.
 * Runs in: every process; read once, since the package may be replaced while the process lives.
 * Must not: be read later than at the start of a process.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageFolder } from './native.ts';

const text = readFileSync(join(packageFolder(), 'package.json'), 'utf8');

export const PACKAGE_VERSION = String((JSON.parse(text) as { version: unknown }).version);
