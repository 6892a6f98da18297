/**
 * Owns: yargs' complaints about a command line, reworded: one line with a cure, and "did you mean".
 * Runs in: the CLI, while arguments are parsed.
 * Must not: look at what a command does; it sees words only.
 */
import { type GatewayError, oneLine } from '../src/protocols/errors.ts';
import { usageError } from './command.ts';

export interface KnownWords {
  /** The command in use; undefined before one is found. */
  readonly command: string | undefined;
  /** What the command in use takes, as --help writes it. */
  readonly positionals: string;
  readonly commands: readonly string[];
  /** Option names without dashes. */
  readonly options: readonly string[];
}

/** `message` is yargs' English text (the locale is pinned); `argv` what the user typed. */
export function rewordUsage(
  message: string,
  argv: readonly string[],
  known: KnownWords,
): GatewayError {
  const help = `see: ublk-nbd ${known.command === undefined ? '' : `${known.command} `}--help`;
  const unknown = /^Unknown arguments?: (.*)$/s.exec(message)?.[1]?.split(', ');
  if (unknown !== undefined) return unknownWord(unknown, argv, known, help);
  if (known.command === undefined) {
    // yargs took the word behind an unknown option for its value, and so saw no command.
    const options = argv.flatMap((typed) => /^--?([a-z][^=]*)/i.exec(typed)?.[1] ?? []);
    const strange = options.filter((option) => !known.options.includes(option));
    if (strange.length > 0) return unknownWord(strange, argv, known, help);
  }
  const following = /^Not enough arguments following: (.*)$/s.exec(message)?.[1];
  if (following !== undefined) {
    return usageError(`option ${dashed(following)} needs a value`, help);
  }
  const choice = /Argument: (.*), Given: (.*), Choices: (.*)$/s.exec(message);
  if (choice !== null) {
    const [, name = '', given = '', choices = ''] = choice;
    const plain = (text: string) => text.replaceAll('"', '');
    return usageError(`${name} '${plain(given)}' is not one of: ${plain(choices)}`, help);
  }
  if (message.startsWith('Not enough non-option arguments')) {
    return usageError(`${known.command} needs ${known.positionals}`, help);
  }
  return usageError(oneLine(message), help);
}

function unknownWord(
  unknown: readonly string[],
  argv: readonly string[],
  known: KnownWords,
  help: string,
): GatewayError {
  const option = unknown.find((word) => isTypedOption(word, argv));
  if (option !== undefined) {
    const near = nearest(option, known.options);
    const meant = near === undefined ? '' : `did you mean ${dashed(near)}? `;
    return usageError(`there is no option ${dashed(option)}`, `${meant}${help}`);
  }
  const word = unknown[0] ?? '';
  if (known.command !== undefined) {
    return usageError(`'${word}' is one argument too many for ${known.command}`, help);
  }
  const near = nearest(word, known.commands);
  const meant = near === undefined ? '' : `did you mean ${near}? `;
  return usageError(`there is no command '${word}'`, `${meant}${help}`);
}

/** Whether `word` stands in `argv` as --word, --word=…, or a letter of a group such as -rx. */
function isTypedOption(word: string, argv: readonly string[]): boolean {
  return argv.some((typed) => {
    if (typed === `--${word}` || typed.startsWith(`--${word}=`)) return true;
    return word.length === 1 && /^-[^-]/.test(typed) && typed.includes(word);
  });
}

function dashed(option: string): string {
  return option.length === 1 ? `-${option}` : `--${option}`;
}

/** The candidate that a third of the word's letters, at most, separate from it. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word, candidate);
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return word.length > 1 ? best : undefined;
}

/** Levenshtein's distance with swaps of neighbours counted once; words are short. */
function editDistance(a: string, b: string): number {
  if (a.length > 40) return a.length;
  const rows = Array.from({ length: a.length + 1 }, (_, i) => [i]);
  const at = (i: number, j: number) => rows[i]?.[j] ?? (i === 0 ? j : 0);
  for (let i = 1; i <= a.length; i += 1) {
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let cost = Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, at(i - 2, j - 2) + 1);
      }
      const row = rows[i];
      if (row !== undefined) row[j] = cost;
    }
  }
  return at(a.length, b.length);
}
