/**
 * Claim: docs/TROUBLESHOOTING.md has every code of an error with its exit status, and every reason
 * for which a device is FATAL, and no other.
 * Method: compares its headings with the table of codes, and its table of reasons with the texts in
 * the sources that make a device FATAL.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { EXIT_STATUS } from '../../src/protocols/errors.ts';
import { packageFolder } from '../support/package-folder.ts';

const page = readFileSync(join(packageFolder, 'docs/TROUBLESHOOTING.md'), 'utf8');

/** Where a device is made FATAL: each match begins at the quote of a reason. */
const FATAL_TEXTS: readonly (readonly [file: string, part: string, pattern: RegExp])[] = [
  ['src/protocols/nbd/identity.ts', 'function fatalDifference(', /return (["'`].*)/g],
  ['src/gateway/reconnect.ts', 'class Reconnect', /this\.#fail\((["'`].*)/g],
  ['src/gateway/recover.ts', 'function tryRecovery(', /return (["'`].*)/g],
  ['src/gateway/recover.ts', 'function recoverDevice(', /failDevice\(.*(`server.*)/g],
];
/** Of SourceError.isFinal; the address comes first. */
const OBJECT_CHANGED = 'is another object now';

/** From where the line of `head` begins to the end of what it opens. */
function partOf(file: string, head: string): string {
  const [, rest = ''] = readFileSync(join(packageFolder, file), 'utf8').split(head);
  return rest.split('\n}\n')[0] ?? '';
}

/** What of a text of the source is the same each time: up to its first variable part. */
function fixedPart(quoted: string): string {
  const quote = quoted.charAt(0);
  return (quoted.slice(1).split(quote)[0] ?? '').split('${')[0]?.replace(/[ :]+$/, '') ?? '';
}

t.test('every code has its heading and its exit status, in the order of the table', async (t) => {
  const sections = [...page.matchAll(/^### (\w+)\n\n(\d+)\. \S/gm)];
  t.strictSame(
    sections.map(([, code, status]) => [code, Number(status)]),
    Object.entries(EXIT_STATUS),
  );
});

t.test('every reason of FATAL has its row, and no other has one', async (t) => {
  const [, section = ''] = page.split('\n## FATAL');
  const [table = ''] = section.split('\n## ');
  const rows = [...table.matchAll(/^\| ([^|]+) \| [^|]+ \| [^|]+ \|$/gm)].slice(1);
  const documented = rows.map(([, reason = '']) => reason.replace(/^… /, ''));
  const texts = FATAL_TEXTS.flatMap(([file, part, pattern]) => {
    const found = [...partOf(file, part).matchAll(pattern)];
    t.ok(found.length > 0, `${part} of ${file} has reasons`);
    return found.map(([, quoted = '']) => fixedPart(quoted));
  });
  const reasons = [...texts, OBJECT_CHANGED];
  for (const reason of reasons) {
    t.ok(
      documented.some((row) => row.startsWith(reason)),
      `documented: ${reason}`,
    );
  }
  for (const row of documented.filter((text) => !/^-+$/.test(text))) {
    t.ok(
      reasons.some((reason) => row.startsWith(reason)),
      `in the sources: ${row}`,
    );
  }
});
