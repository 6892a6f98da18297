/**
 * Claim: the manual names everything that a user can type, meet or set, and nothing else.
 * Method: compares docs/man/ublk-nbd.8 with --help of every command, with the table of exit
 * statuses, and with the environment variables that the sources read.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { COMMANDS } from '../../bin/commands/index.ts';
import { EXIT_STATUS } from '../../src/protocols/errors.ts';
import { cli } from '../support/cli.ts';
import { packageFolder } from '../support/package-folder.ts';
import { readSources } from '../support/sources.ts';

const path = join(packageFolder, 'docs/man/ublk-nbd.8');
const page = readFileSync(path, 'utf8');

/** `.It` lines of a section, from its heading to the next one. */
function items(section: string): readonly string[] {
  const [, text = ''] = page.split(`.Sh ${section}\n`);
  const [body = ''] = text.split(/^\.Sh /m);
  return [...body.matchAll(/^\.It (.*)$/gm)].map(([, item = '']) => item);
}

/** Options as mdoc writes them, `Fl r , Fl -read-only Ar X`, with their dashes. */
const documented = new Set(
  items('OPTIONS').flatMap((item) =>
    [...item.matchAll(/\bFl (-?[\w-]+)/g)].map(([, flag = '']) => `-${flag}`),
  ),
);

t.test('every option of every command is in the manual, and no other', async (t) => {
  const typed = new Set<string>();
  for (const name of ['', ...COMMANDS.map((command) => command.name)]) {
    const { stdout } = await cli(name === '' ? ['--help'] : [name, '--help']);
    const [, options = ''] = stdout.split('\nOptions:\n');
    const heads = [...options.matchAll(/^ {2,6}((?:-\w, )?--[\w-]+)/gm)];
    t.ok(heads.length >= 3, `${name} --help lists options`);
    for (const [, head = ''] of heads) for (const option of head.split(', ')) typed.add(option);
  }
  t.strictSame(
    [...typed].filter((option) => !documented.has(option)),
    [],
    'all documented',
  );
  t.strictSame(
    [...documented].filter((option) => !typed.has(option)),
    [],
    'all there',
  );
});

t.test('every command is in the manual, and no other', async (t) => {
  const names = items('COMMANDS').map((item) => /^Cm (\w+)/.exec(item)?.[1]);
  t.strictSame(
    names,
    COMMANDS.map(({ name }) => name),
  );
  for (const { name } of COMMANDS)
    t.ok(page.includes(`.Nm\n.Cm ${name}\n`), `${name} in the synopsis`);
});

t.test('every error code is in the manual with its exit status, and no other', async (t) => {
  const found = [...page.matchAll(/^\.It Er (\w+)\n\((\d+)\) /gm)].map(
    ([, code = '', status]) => [code, Number(status)] as const,
  );
  t.strictSame(Object.fromEntries(found), { ...EXIT_STATUS });
  const statuses = items('EXIT STATUS').map(Number);
  const expected = [0, ...new Set(Object.values(EXIT_STATUS))].sort((a, b) => a - b);
  t.strictSame(statuses, expected);
});

t.test('every environment variable of ours is in the manual, and no other', async (t) => {
  const sources = readSources(packageFolder).filter((file) => /^(bin|src)\//.test(file.path));
  const read = new Set(
    sources.flatMap(({ text }) => [...text.matchAll(/\.env\.(UBLK_NBD_\w+)/g)].map(([, n]) => n)),
  );
  const listed = items('ENVIRONMENT').map((item) => item.replace('Ev ', ''));
  t.strictSame(listed.sort(), [...read].sort());
});

t.test('man renders it without a warning', async (t) => {
  const { error, status, stdout, stderr } = spawnSync('man', ['--warnings', '--local-file', path], {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C.UTF-8', MANPAGER: 'cat', MANWIDTH: '80' },
  });
  if (error !== undefined) {
    t.comment('skipped: man is not installed');
    return;
  }
  t.equal(stderr, '');
  t.equal(status, 0);
  t.match(stdout, /EXIT STATUS/);
});

t.test('the JSON keys that the manual names are the ones that are printed', async (t) => {
  const [, section = ''] = page.split('.Sh JSON\n');
  const [json = ''] = section.split(/^\.Sh /m);
  for (const key of [
    ...['id', 'path', 'name', 'target', 'state', 'reason', 'sizeBytes', 'readOnly', 'queues'],
    ...[
      'depth',
      'logicalBlockBytes',
      'serverPid',
      'serverVersion',
      'connectedAtMs',
      'details',
      'counters',
    ],
    ...['exportName', 'description', 'canFlush', 'canFua', 'canTrim', 'canWriteZeroes'],
    ...['canFastZero', 'canMultiConn', 'rotational', 'minimumBlockBytes', 'preferredBlockBytes'],
    ...['url', 'cachedBytes', 'inUse', 'madeAtMs', 'usedAtMs', 'broken', 'freedBytes', 'entries'],
    ...['outcome', 'checkedBytes', 'droppedBytes'],
    ...['maximumBlockBytes', 'structuredReplies', 'exports', 'ok', 'required', 'found', 'cure'],
  ]) {
    t.match(json, new RegExp(`\\b${key}\\b`), key);
  }
});
