/**
 * Owns: where the package is.
 * Runs in: every process of the tests.
 * Must not: run as TypeScript: this file is dist/test/support/package-folder.js when it runs.
 */
import { join } from 'node:path';

export const packageFolder = join(import.meta.dirname, '..', '..', '..');
