/**
 * Owns: the options that every bench takes: `--quick`, `--only NAME` and `--kernel NAME`; and how a
 * wrong one is told.
 * Runs in: the bench's process on the host.
 * Must not: know what a bench measures.
 */
import { type ParseArgsConfig, parseArgs } from 'node:util';

export interface BenchOptions {
  readonly repetitions: number;
  readonly only: readonly string[];
  readonly kernel: string;
}

const COMMON = {
  quick: { type: 'boolean', default: false },
  only: { type: 'string', multiple: true, default: [] as string[] },
  kernel: { type: 'string', default: 'floor' },
} as const;

/**
 * Parses `args`, which may have the bench's `own` options too; `names` are what `--only` may name.
 * Ends the process with status 2 and `usage` for what is wrong.
 */
export function readOptions<Own extends NonNullable<ParseArgsConfig['options']>>(
  args: readonly string[],
  own: Own,
  names: readonly string[],
  usage: string,
) {
  try {
    const { values } = parseArgs({ args: [...args], options: { ...own, ...COMMON } });
    const common = values as { quick: boolean; only: string[]; kernel: string };
    const unknown = common.only.find((name) => !names.includes(name));
    if (unknown !== undefined) usageError(`nothing is called '${unknown}'`, usage);
    const { quick, only, kernel } = common;
    const options: BenchOptions = { repetitions: quick ? 1 : 2, only, kernel };
    return { options, values };
  } catch (error) {
    usageError(error instanceof Error ? error.message : String(error), usage);
  }
}

/** Ends the process with status 2. */
export function usageError(problem: string, usage: string): never {
  process.stderr.write(`bench: ${problem}\n${usage}\n`);
  process.exit(2);
}
