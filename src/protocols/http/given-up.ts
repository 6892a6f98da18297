/**
 * Owns: what becomes of a read that nobody waits for any more.
 * Runs in: any process; pure.
 * Must not: end what it does not wait for.
 */
import { SourceError } from '../source/source-error.ts';

/** Why it ended: the reason of `signal`, which was aborted, where that is one of this kind. */
export function givenUp({ reason }: AbortSignal, subject: string): SourceError {
  if (reason instanceof SourceError) return reason;
  return new SourceError('UNBD_INTERRUPTED', `${subject}: it was given up`);
}

/**
 * Settles as `work`, but for an abort: then it rejects at once, and `work` goes on unheard. For
 * work of which only what harms nobody may go on.
 */
export async function unlessGivenUp<T>(
  work: Promise<T>,
  signal: AbortSignal,
  subject: string,
): Promise<T> {
  let onAbort = (): void => undefined;
  const ended = new Promise<never>((_, reject) => {
    onAbort = () => reject(givenUp(signal, subject));
  });
  signal.addEventListener('abort', onAbort);
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([work, ended]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
