/**
 * Claim: the sources keep the project's rules: who imports whom, sizes, comments, equal constants.
 * Method: reads every source file; rules are tables here, and each has a sample that breaks it.
 */
import { posix } from 'node:path';
import t from 'tap';
import * as wire from '../../src/protocols/nbd/wire.ts';
import { packageFolder } from '../support/package-folder.ts';
import {
  cppFunctions,
  importsOf,
  readSources,
  type SourceFile,
  typescriptFunctions,
} from '../support/sources.ts';

// Every source file is parsed; an emulated machine takes its time.
t.setTimeout(120_000);

const LINE_COLUMNS_MAX = 100;
const FUNCTION_LINES_MAX = 70;
const FILE_LINES_MAX = { ts: 250, cpp: 350, script: 350 };

/** Folder of native/ to the folders that it may include beside itself; undefined = every one. */
const CPP_INCLUDES: Readonly<Record<string, readonly string[] | undefined>> = {
  node: undefined,
  test: undefined,
  queue: ['ublk', 'adapter', 'ring', 'base'],
  nbd: ['adapter', 'transport', 'ring', 'base'],
  store: ['bridge', 'adapter', 'ring', 'base'],
  bridge: ['adapter', 'ring', 'base'],
  local: ['adapter', 'transport', 'ring', 'base'],
  ublk: ['ring', 'base'],
  adapter: ['ring', 'base'],
  transport: ['ring', 'base'],
  helper: ['ublk', 'ring', 'base'],
  ring: ['base'],
  base: [],
};
/** Layer to the layers that it may import, and to its packages; tests may import everything. */
const TS_IMPORTS: Readonly<Record<string, { folders: string[]; packages: string[] }>> = {
  'bin/': { folders: ['bin/', 'src/gateway/', 'src/protocols/'], packages: ['yargs'] },
  'src/gateway/': {
    folders: ['src/gateway/', 'src/protocols/'],
    packages: ['msgpackr/pack', 'msgpackr/unpack'],
  },
  'src/protocols/': {
    folders: ['src/protocols/'],
    packages: [
      ...['@aws-sdk/credential-provider-ini', '@aws-sdk/credential-provider-node'],
      ...['@smithy/signature-v4', 'undici'],
    ],
  },
};
/** Cut in two, so that this line is not one of them. */
const MARKS = ['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'for' + ' now'].map(
  (mark) => `\\b${mark}\\b`,
);
const ADDON_LOADER = 'src/gateway/native.ts';
/** Constant of native/nbd/wire.h to that of src/protocols/nbd/wire.ts. */
const WIRE_PAIRS: Readonly<Record<string, keyof typeof wire>> = {
  kRequestMagic: 'REQUEST_MAGIC',
  kStringBytesMax: 'MAXIMUM_STRING_BYTES',
  kDisc: 'CMD_DISC',
  'sizeof(RequestHeader)': 'REQUEST_BYTES',
};

const files = readSources(packageFolder);

function sample(path: string, text: string): SourceFile {
  const language = path.endsWith('.ts') ? 'ts' : /\.(cc|h)$/.test(path) ? 'cpp' : 'script';
  return { path, language, text, lines: text.replace(/\n$/, '').split('\n') };
}

/** `rule` finds nothing in the sources, and something in each of `broken`: it does look. */
function holds(name: string, rule: (file: SourceFile) => string[], broken: SourceFile[]): void {
  t.test(name, async (t) => {
    for (const file of broken) t.not(rule(file).length, 0, `finds: ${file.text.split('\n')[0]}`);
    t.strictSame(
      files.flatMap((file) => rule(file).map((what) => `${file.path}${what}`)),
      [],
    );
  });
}

function linesMatching(file: SourceFile, matches: (line: string) => boolean): string[] {
  return file.lines.flatMap((line, at) => (matches(line) ? [`:${at + 1}: ${line.trim()}`] : []));
}

holds(
  'C++ folders include only what is below them, and napi.h is known to native/node alone',
  (file) => {
    const folder = /^native\/([^/]+)\//.exec(file.path)?.[1];
    if (file.language !== 'cpp' || folder === undefined) return [];
    if (!(folder in CPP_INCLUDES)) return [': a folder without a rule'];
    const allowed = CPP_INCLUDES[folder];
    const includes = [...file.text.matchAll(/^\s*#\s*include\s*(["<])([^">]+)/gm)];
    return includes.flatMap(([, quote, name = '']) => {
      if (/n(ode_)?api\.h$/.test(name)) return folder === 'node' ? [] : [`: includes ${name}`];
      if (quote === '<') return name in CPP_INCLUDES ? [`: <${name}>`] : [];
      const other = name.split('/')[0] ?? '';
      const isKnown = name.includes('/') && other in CPP_INCLUDES && other !== 'test';
      if (folder === 'test') return other === 'node' ? [`: includes ${name}`] : [];
      if (!isKnown) return [`: includes ${name} without its folder`];
      const isAllowed = other === folder || (allowed?.includes(other) ?? folder === 'node');
      return isAllowed ? [] : [`: includes ${name}`];
    });
  },
  [
    sample('native/queue/a.cc', '#include "nbd/wire.h"\n'),
    sample('native/nbd/a.cc', '#include "queue/tag_table.h"\n'),
    sample('native/base/a.h', '#include "ring/ring.h"\n'),
    sample('native/queue/b.cc', '#include <napi.h>\n'),
    sample('native/new/a.cc', 'int a;\n'),
  ],
);

holds(
  'TypeScript layers import only what is below them, and the packages of their own',
  (file) => {
    const layer = Object.keys(TS_IMPORTS).find((folder) => file.path.startsWith(folder));
    const rules = TS_IMPORTS[layer ?? ''];
    if (file.language !== 'ts' || rules === undefined) {
      return file.path.startsWith('src/') ? [': a folder without a rule'] : [];
    }
    const wrong = importsOf(file).filter((name) => {
      if (name === 'node:module') return file.path !== ADDON_LOADER;
      if (name.startsWith('node:')) return false;
      if (!name.startsWith('.')) return !rules.packages.includes(name);
      const path = posix.join(posix.dirname(file.path), name);
      return !rules.folders.some((folder) => path.startsWith(folder)) || !path.endsWith('.ts');
    });
    const loads = /process\.dlopen|\brequire\(/.test(file.text) && file.path !== ADDON_LOADER;
    return [...wrong.map((name) => `: imports ${name}`), ...(loads ? [': loads a module'] : [])];
  },
  [
    sample('src/protocols/a.ts', "import { log } from '../gateway/log.ts';\n"),
    sample('src/gateway/a.ts', "await import('../../bin/cli.ts');\n"),
    sample('src/gateway/b.ts', "import yargs from 'yargs';\n"),
    sample('src/gateway/c.ts', "import { createRequire } from 'node:module';\n"),
    sample('bin/a.ts', "import { Packr } from 'msgpackr/pack';\n"),
    sample('src/gateway/d.ts', "import { Packr } from 'msgpackr';\n"),
    sample('src/protocols/b.ts', "import { Packr } from 'msgpackr/pack';\n"),
    sample('src/other/a.ts', 'export {};\n'),
  ],
);

holds(
  'the AWS SDK is loaded when it is used, and by nobody else',
  (file) => {
    if (!/^(?:bin|src)\//.test(file.path)) return [];
    const isStatic = /^(?:import|export)\b(?! type).*['"]@(?:aws-sdk|smithy)\//;
    return linesMatching(file, (line) => isStatic.test(line));
  },
  [sample('src/protocols/s3/a.ts', "import { SignatureV4 } from '@smithy/signature-v4';\n")],
);

holds(
  'stdout is known to bin alone; nothing prints by console',
  (file) => {
    if (file.language !== 'ts') return [];
    const printer = /\bconsole\.(?:log|error|warn|info|debug)\b/;
    const owned = /\bprocess\.stdout\b/;
    const isSource = file.path.startsWith('src/');
    if (file.path.startsWith('bench/')) return [];
    return linesMatching(file, (line) => printer.test(line) || (isSource && owned.test(line)));
  },
  [
    // The samples are cut in two, so that this file does not break the rule.
    sample('src/gateway/a.ts', `console${'.log'}(1);\n`),
    sample('src/gateway/b.ts', `process${'.stdout'}.write('1');\n`),
  ],
);

holds(
  'no work is left behind in a comment',
  (file) => linesMatching(file, (line) => new RegExp(MARKS.join('|'), 'i').test(line)),
  [sample('bin/a.ts', `// ${'TO'}DO: later\n`), sample('native/a.cc', `// for${' '}now\n`)],
);

holds(
  'every file opens by saying what it owns, or what its test claims',
  (file) => {
    const start = file.lines[0]?.startsWith('#!') ? 1 : 0;
    const head = file.lines.slice(start, start + 12).join('\n');
    const marks = { ts: '/**', cpp: '//', script: '#' } as const;
    if (!head.startsWith(marks[file.language])) return [': opens without a comment'];
    if (/^(?:native\/)?test\/|^bench\//.test(file.path)) return [];
    return /^\W*Owns\b/m.test(head) ? [] : [': does not say what it owns'];
  },
  [sample('bin/a.ts', 'export {};\n'), sample('native/queue/a.cc', '// A file.\nint a;\n')],
);

holds(
  `lines have at most ${LINE_COLUMNS_MAX} columns, but for web addresses`,
  (file) =>
    linesMatching(file, (line) => [...line].length > LINE_COLUMNS_MAX && !/https?:\/\//.test(line)),
  [sample('bin/a.ts', `// ${'é'.repeat(LINE_COLUMNS_MAX)}\n`)],
);

holds(
  'files are short',
  (file) => {
    const maximum = FILE_LINES_MAX[file.language];
    return file.lines.length <= maximum ? [] : [`: ${file.lines.length} lines, ${maximum} allowed`];
  },
  [sample('bin/a.ts', 'a;\n'.repeat(251)), sample('native/queue/a.cc', 'a;\n'.repeat(351))],
);

holds(
  `functions have at most ${FUNCTION_LINES_MAX} lines`,
  (file) => {
    const find = { ts: typescriptFunctions, cpp: cppFunctions, script: () => [] }[file.language];
    const long = find(file).filter(({ length }) => length > FUNCTION_LINES_MAX);
    return long.map(({ name, line, length }) => `:${line}: ${name} has ${length} lines`);
  },
  [
    sample('bin/a.ts', `export function f() {\n${'a();\n'.repeat(70)}}\n`),
    sample('bin/b.ts', `const f = async () => {\n${'a();\n'.repeat(70)}};\n`),
    sample(
      'native/a.cc',
      `namespace unbd {\nint A::f(int a) const {\n${'b();\n'.repeat(70)}}\n}\n`,
    ),
    sample('native/b.cc', `A::A(int a) : a_(a), b_{1} {\n${'if (a) { b(); }\n'.repeat(70)}}\n`),
  ],
);

t.test('what the wire has on both sides is equal', async (t) => {
  const header = files.find(({ path }) => path === 'native/nbd/wire.h')?.text ?? '';
  const constants = new Map<string, number>([
    ...[...header.matchAll(/\b(k\w+) = (0x[0-9a-f]+|\d+)[;,]/g)].map(
      ([, name = '', value]) => [name, Number(value)] as const,
    ),
    ...[...header.matchAll(/static_assert\((sizeof\(\w+\)) == (\d+)/g)].map(
      ([, name = '', value]) => [name, Number(value)] as const,
    ),
  ]);
  const ours: Readonly<Record<string, unknown>> = { ...wire };
  for (const [native, name] of Object.entries(WIRE_PAIRS)) {
    t.equal(constants.get(native), ours[name], `${native} is ${name}`);
  }
  for (const [native, value] of constants) {
    const name = native
      .replace(/^k/, '')
      .replace(/(?<=.)([A-Z])/g, '_$1')
      .toUpperCase();
    if (name in ours) t.equal(ours[name], value, `${native} is ${name}`);
  }
});
