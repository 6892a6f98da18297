/**
 * Owns: the line on a terminal that says how far a download is before its device is there.
 * Runs in: the CLI.
 * Must not: leave the line behind, or write where nobody looks at it.
 */
import type { ConnectOptions } from '../src/gateway/messages.ts';
import type { Context } from './command.ts';

type Tell = (text: string) => void;

/** Runs `act` with what its progress is told to; undefined where nothing takes long. */
export async function withProgress<T>(
  { spool }: ConnectOptions,
  context: Context,
  act: (tell: Tell | undefined) => Promise<T>,
): Promise<T> {
  if (spool !== true) return act(undefined);
  try {
    return await act((text) => context.progress?.(text));
  } finally {
    context.progress?.(undefined);
  }
}

/** What shows `text` in place of the line before it; undefined takes that away. */
export function progressLine(text: string | undefined, columns: number): string {
  const shown = (text ?? '').slice(0, Math.max(0, columns - 1));
  return `\r${shown}\u001b[K${text === undefined ? '\r' : ''}`;
}
