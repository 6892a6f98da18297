/**
 * Owns: the list of the project's source files, what is in them, and a quick compile of them.
 * Runs in: unit tests.
 * Must not: judge; tidy.ts does.
 */
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import ts from 'typescript';

const FOLDERS = ['bin', 'src', 'native', 'test', 'bench', 'scripts', '.ci'];

export type Language = 'ts' | 'cpp' | 'script';

export interface SourceFile {
  /** Relative to the package's folder. */
  readonly path: string;
  readonly language: Language;
  readonly text: string;
  readonly lines: readonly string[];
}

export interface FunctionSpan {
  readonly name: string;
  /** Counted from 1. */
  readonly line: number;
  readonly length: number;
}

/** Every source file of the package; a file without extension counts when it opens with `#!`. */
export function readSources(root: string): readonly SourceFile[] {
  const files: SourceFile[] = [];
  for (const folder of FOLDERS) {
    for (const entry of readdirSync(join(root, folder), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath ?? entry.path, entry.name);
      const extension = /\.([^./]+)$/.exec(entry.name)?.[1];
      if (extension !== undefined && !['ts', 'cc', 'h', 'sh', 'py'].includes(extension)) continue;
      const text = readFileSync(path, 'utf8');
      if (extension === undefined && !text.startsWith('#!')) continue;
      const language =
        extension === 'ts' ? 'ts' : /^(cc|h)$/.test(extension ?? '') ? 'cpp' : 'script';
      const lines = text.replace(/\n$/, '').split('\n');
      files.push({ path: path.slice(root.length + 1), language, text, lines });
    }
  }
  return files;
}

/** Compiles the program into `folder`, unchecked and so within a second; returns its entry. */
export function compileProgram(root: string, folder: string): string {
  for (const { path, text } of readSources(root)) {
    if (!/^(?:bin|src)\//.test(path)) continue;
    const output = join(folder, 'dist', path.replace(/\.ts$/, '.js'));
    mkdirSync(dirname(output), { recursive: true });
    const compilerOptions: ts.CompilerOptions = {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.ESNext,
      rewriteRelativeImportExtensions: true,
      verbatimModuleSyntax: true,
    };
    writeFileSync(output, ts.transpileModule(text, { compilerOptions }).outputText);
  }
  copyFileSync(join(root, 'package.json'), join(folder, 'package.json'));
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  return join(folder, 'dist/bin/ublk-nbd.js');
}

/** Modules that a TypeScript file imports: import, export from, import() and require(). */
export function importsOf(file: SourceFile): readonly string[] {
  return ts.preProcessFile(file.text, true, true).importedFiles.map(({ fileName }) => fileName);
}

/** Functions, methods and accessors of a TypeScript file; an outer one counts what it holds. */
export function typescriptFunctions(file: SourceFile): readonly FunctionSpan[] {
  const source = ts.createSourceFile(file.path, file.text, ts.ScriptTarget.Latest, true);
  const spans: FunctionSpan[] = [];
  const lineOf = (position: number) => source.getLineAndCharacterOfPosition(position).line + 1;
  const visit = (node: ts.Node): void => {
    if (ts.isFunctionLike(node) && 'body' in node && node.body !== undefined) {
      const line = lineOf(node.getStart());
      const name = node.name?.getText() ?? 'function';
      spans.push({ name, line, length: lineOf(node.getEnd()) - line + 1 });
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return spans;
}

/** Blanks out comments, strings and preprocessor lines, so that only code has braces. */
export function cppCode(text: string): string {
  const blank = (part: string) => part.replace(/[^\n]/g, ' ');
  return text
    .replace(
      /R"(\w*)\((?:.|\n)*?\)\1"|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'/g,
      (part, _tag, at) =>
        // 1'000'000 is a number, not a character.
        part.startsWith("'") && /[0-9a-fA-F]/.test(text[at - 1] ?? '') ? part : blank(part),
    )
    .replace(/\/\/.*|\/\*(?:.|\n)*?\*\//g, blank)
    .replace(/^[ \t]*#(?:.*\\\n)*.*$/gm, blank);
}

/** A block that is no function: its header says so. */
const NO_FUNCTION = /^\s*(?:(?:inline|export)\s+)*(?:namespace|class|struct|union|enum|extern)\b/;
/** What may stand between the parameters of a function and its body. */
const BEFORE_BODY = new RegExp(
  String.raw`\)\s*(?:const|noexcept|override|final|mutable|&&?|->[^;={}]*|\[\[[^\]]*\]\]|\s)*` +
    '(?::[^:][^;]*)?$',
);

/** Function bodies of a C++ file by their braces: not a parser, good for clang-formatted code. */
export function cppFunctions(file: SourceFile): readonly FunctionSpan[] {
  const code = cppCode(file.text);
  const spans: FunctionSpan[] = [];
  /** Where the text in front of the next brace begins. */
  let headerStart = 0;
  /** Open braces: the function that it opens, 'scope' for a namespace or type, 'other' inside. */
  const open: ({ name: string; line: number } | 'scope' | 'other')[] = [];
  const lineAt = (position: number) => code.slice(0, position).split('\n').length;
  for (let index = 0; index < code.length; index += 1) {
    const character = code[index];
    const isOutside = !open.some((brace) => brace !== 'scope');
    if (character === ';' && isOutside) headerStart = index + 1;
    if (character === '{') {
      const header = code.slice(headerStart, index);
      // clang-format sets a blank before a body and none before an initializer.
      if (!isOutside || /\w$/.test(header)) open.push('other');
      else if (NO_FUNCTION.test(header.replace(/template\s*<[^{]*?>\s*/, ''))) open.push('scope');
      else if (BEFORE_BODY.test(header)) {
        const start = headerStart + header.search(/\S/);
        open.push({ name: /([\w~:]+)\s*\(/.exec(header)?.[1] ?? '?', line: lineAt(start) });
      } else open.push('other');
      if (open.at(-1) === 'scope') headerStart = index + 1;
    }
    if (character === '}') {
      const closed = open.pop();
      if (typeof closed === 'object') {
        spans.push({ ...closed, length: lineAt(index) - closed.line + 1 });
      }
      // A braced initializer of a member is part of the header of the constructor's body.
      if (closed !== 'other') headerStart = index + 1;
    }
  }
  return spans;
}
