/**
 * Owns: argv to a command and an error to an exit status.
 * Runs in: the CLI. Parsing is synchronous and runs nothing; the command runs after it.
 * Must not: touch the process (streams, signals, exit); ublk-nbd.ts does.
 */
import type { Arguments, Argv } from 'yargs';
import yargs from 'yargs';
import { asGatewayError, EXIT_STATUS, type GatewayError } from '../src/protocols/errors.ts';
import { type Command, type Context, usageError } from './command.ts';
import { COMMANDS, type CommandEntry } from './commands/index.ts';
import { COMPLETION_FLAG, completions } from './complete.ts';
import { nbdClientHint } from './nbd-client.ts';
import { rewordUsage } from './usage.ts';

export interface CliOptions {
  readonly version: string;
  /** Width of the terminal, for --help. */
  readonly columns: number;
  /** Show stack traces, as --debug does. */
  readonly debug: boolean;
}

/** Runs one command line and returns the exit status; never rejects. */
export async function runCli(
  argv: readonly string[],
  context: Context,
  options: CliOptions,
): Promise<number> {
  try {
    if (argv[0] === COMPLETION_FLAG) {
      const { output } = await parse(argv, options);
      for (const line of await completions(argv.slice(2), output, context)) context.print(line);
      return 0;
    }
    const foreign = nbdClientHint(
      argv,
      COMMANDS.map((entry) => entry.name),
    );
    if (foreign !== undefined) throw foreign;
    const { output, chosen } = await parse(argv, options);
    if (chosen !== undefined) await chosen.command.run(chosen.args, context);
    else if (output !== '') context.print(output);
    return 0;
  } catch (error) {
    return report(asGatewayError(error), context, options.debug || argv.includes('--debug'));
  }
}

/** Prints the one line of an error and returns its exit status. */
export function report(error: GatewayError, context: Context, debug: boolean): number {
  context.warn(error.line);
  if (debug) {
    for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
      context.warn(cause.stack ?? String(cause));
    }
  }
  return EXIT_STATUS[error.code];
}

interface Parsed {
  /** What --help, --version or the completion prints. */
  readonly output: string;
  readonly chosen?: {
    readonly command: Command;
    readonly args: Arguments<Record<string, unknown>>;
  };
}

async function parse(argv: readonly string[], options: CliOptions): Promise<Parsed> {
  const commands = COMMANDS.map(({ name }) => name);
  let words: YargsWords = { key: { help: 0, version: 0, debug: 0 }, boolean: ['debug'] };
  let entered: CommandEntry | undefined;
  let chosen: Parsed['chosen'];
  const parser = base(options);
  for (const entry of COMMANDS) {
    // Only the module of a command that was named is loaded; the others are a line of --help.
    const command = argv.includes(entry.name) ? (await entry.load()).command : undefined;
    if (command === undefined) {
      parser.command(commandLine(entry), entry.summary);
      continue;
    }
    parser.command(
      commandLine(entry),
      entry.summary,
      (inner: Argv) => {
        const built = command.build(inner);
        for (const [line, what] of command.examples) built.example(`ublk-nbd ${line}`, what);
        entered = entry;
        words = yargsWords(built);
        return built;
      },
      (args) => {
        chosen = { command, args };
      },
    );
  }
  parser.fail((message, error) => {
    // yargs brings its own complaints as a YError or as a message alone; ours pass as they are.
    if (error && error.name !== 'YError') throw error;
    throw rewordUsage(message || error.message, argv, {
      command: entered?.name,
      positionals: entered?.positionals ?? '',
      commands,
      options: Object.keys(words.key),
    });
  });
  let output = '';
  parser.parse([...argv], (_error: unknown, _args: unknown, text: string) => {
    output = text;
  });
  if (chosen === undefined) return { output };
  refuseFlagValues(argv, words.boolean);
  return { output, chosen };
}

function commandLine(entry: CommandEntry): string {
  return `${entry.name} ${entry.positionals}`.trimEnd();
}

function base(options: CliOptions): Argv {
  return yargs()
    .scriptName('ublk-nbd')
    .exitProcess(false)
    .detectLocale(false)
    .locale('en')
    .parserConfiguration({
      'boolean-negation': false,
      'camel-case-expansion': false,
      'dot-notation': false,
      'duplicate-arguments-array': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
    })
    .usage('Usage: $0 COMMAND [OPTION]...')
    .option('debug', { type: 'boolean', describe: 'Print the stack trace of an error' })
    .strict()
    .demandCommand(1, 'no command is given')
    .help()
    .alias('h', 'help')
    .version(`ublk-nbd ${options.version}`)
    .alias('V', 'version')
    .epilogue('Manual: man ublk-nbd')
    .wrap(Math.max(60, Math.min(100, options.columns)));
}

interface YargsWords {
  /** Every option's name and alias. */
  readonly key: Readonly<Record<string, unknown>>;
  readonly boolean: readonly string[];
}

/** getOptions() is there in yargs (its own completion uses it), not in its types. */
function yargsWords(parser: Argv): YargsWords {
  return (parser as unknown as { getOptions(): YargsWords }).getOptions();
}

/** yargs reads `--read-only=anything` as false; a flag takes no value here. */
function refuseFlagValues(argv: readonly string[], flags: readonly string[]): void {
  const end = argv.indexOf('--');
  for (const typed of end === -1 ? argv : argv.slice(0, end)) {
    const flag = flags.find((name) => typed.startsWith(`--${name}=`));
    if (flag !== undefined) throw usageError(`option --${flag} takes no value`);
  }
}
