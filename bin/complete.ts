/**
 * Owns: the words that a shell offers after TAB.
 * Runs in: the CLI, called by the script that `ublk-nbd completion` prints.
 * Must not: start a controller, or print an error: the user is in the middle of a line.
 */
import type { Context } from './command.ts';

/** First argument of a completion call, as yargs has it; then the program's name and the words. */
export const COMPLETION_FLAG = '--get-yargs-completions';

/** Commands whose first argument is a device. */
const DEVICE_COMMANDS: readonly string[] = ['disconnect', 'logs'];

/** `words` follow the program's name, the last is unfinished; `fromYargs`: what yargs offers. */
export async function completions(
  words: readonly string[],
  fromYargs: string,
  context: Context,
): Promise<readonly string[]> {
  const current = words.at(-1) ?? '';
  const before = words.slice(0, -1);
  if (!current.startsWith('-') && DEVICE_COMMANDS.includes(before[0] ?? '')) {
    const isTaken = before.slice(1).some((word) => !word.startsWith('-'));
    return isTaken ? [] : await deviceWords(current, context);
  }
  const offered = fromYargs.split('\n');
  if (!current.startsWith('-') && before[0] === 'cache') {
    // After the action comes a folder, which the shell knows better.
    const isTaken = before.slice(1).some((word) => !word.startsWith('-'));
    return isTaken ? [] : offered.filter((word) => word.startsWith(current) && /^[^-]/.test(word));
  }
  // yargs offers aliases of one letter with two dashes; -r is short enough without help.
  return offered.filter(
    (word) => word !== '' && word.startsWith(current) && !/^--?.(?::|$)/.test(word),
  );
}

async function deviceWords(current: string, context: Context): Promise<readonly string[]> {
  try {
    const devices = await context.gateway.listRunning();
    const all = devices.flatMap(({ id, path, name }) => [
      ...(current.startsWith('/') ? [path] : [`ublkb${id}`]),
      ...(name === undefined ? [] : [name]),
    ]);
    return all.filter((word) => word.startsWith(current));
  } catch {
    return [];
  }
}
