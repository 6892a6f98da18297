/**
 * Owns: what becomes of a read that nobody waits for any more.
 * Runs in: any process; pure.
 * Must not: end it.
 */
import { SourceError } from '../source/source-error.ts';
import { unlessAborted } from '../unless-aborted.ts';

/** Why it ended: the reason of `signal`, which was aborted, where that is one of this kind. */
export function givenUp({ reason }: AbortSignal, subject: string): SourceError {
  if (reason instanceof SourceError) return reason;
  return new SourceError('UNBD_INTERRUPTED', `${subject}: it was given up`);
}

/** Settles as `work`, but for an abort: then it rejects with why, and `work` goes on unheard. */
export function unlessGivenUp<T>(
  work: Promise<T>,
  signal: AbortSignal,
  subject: string,
): Promise<T> {
  return unlessAborted(work, signal, () => givenUp(signal, subject));
}
