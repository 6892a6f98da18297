/**
 * Owns: the shape of a command, the context that it runs in, and the options that several share.
 * Runs in: the CLI.
 * Must not: import the gateway's code; types only, so that `--help` and completion stay quick.
 */
import type { Arguments, Argv } from 'yargs';
import { GatewayError } from '../src/protocols/errors.ts';
import type { Gateway } from './gateway.ts';

/** What a command may touch; tests give their own. */
export interface Context {
  readonly gateway: Gateway;
  /** A line on stdout. */
  print(text: string): void;
  /** A line on stderr: `ublk-nbd: text`. */
  warn(text: string): void;
  /** Where stderr is a terminal: a line there that the next one takes the place of. */
  progress?(text: string | undefined): void;
  /** Aborted by SIGINT, SIGTERM and SIGHUP, which from the first call on end no process. */
  signal(): AbortSignal;
}

export interface CommandDefinition<A> {
  /** [command line, what it does]; at least one. */
  readonly examples: readonly (readonly [string, string])[];
  build(yargs: Argv): Argv<A>;
  run(args: Arguments<A>, context: Context): Promise<void>;
}

/** A command whose argument type is its own business. */
export type Command = CommandDefinition<Record<string, unknown>>;

export function defineCommand<A>(definition: CommandDefinition<A>): Command {
  return definition as unknown as Command;
}

export function usageError(message: string, hint?: string): GatewayError {
  return new GatewayError('UNBD_USAGE', message, hint === undefined ? {} : { hint });
}

/** An option whose value is a whole number from `minimum` to `maximum`. */
export function integerOption(name: string, describe: string, minimum: number, maximum: number) {
  return {
    describe: `${describe}, ${minimum} to ${maximum}`,
    type: 'string',
    requiresArg: true,
    coerce: (text: string): number => {
      const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
      if (value >= minimum && value <= maximum) return value;
      // yargs keeps the message alone, and rewordUsage makes the error of it.
      throw new Error(`${name} '${text}' is not a whole number from ${minimum} to ${maximum}`);
    },
  } as const;
}

export const jsonOption = {
  json: { type: 'boolean', describe: 'Print one line of JSON for machines' },
} as const;
