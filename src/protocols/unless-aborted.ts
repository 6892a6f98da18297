/**
 * Owns: waiting for a promise no longer than until an abort.
 * Runs in: any process; pure.
 * Must not: end what it does not wait for.
 */
import { GatewayError } from './errors.ts';

const interrupted = (): GatewayError => new GatewayError('UNBD_INTERRUPTED', 'interrupted');

/** Rejects with `why()` as soon as `signal` aborts; the promise itself goes on unheard. */
export function unlessAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal,
  why: () => GatewayError = interrupted,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(why());
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
