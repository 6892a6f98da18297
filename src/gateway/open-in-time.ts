/**
 * Owns: the attempts to reach a backend before there is a device (--open-timeout).
 * Runs in: server processes, on the JS main thread.
 * Must not: try again what another attempt does not mend, such as an export that is not there.
 */
import { asGatewayError, type ErrorCode, EXIT_STATUS, GatewayError } from '../protocols/errors.ts';
import { BackOff } from './back-off.ts';

/** The backend cannot be reached, or the connection broke: all that have this exit status. */
function mayPass(code: ErrorCode): boolean {
  return EXIT_STATUS[code] === EXIT_STATUS.UNBD_BACKEND_UNREACHABLE;
}

/**
 * Calls `connect` until it succeeds, or for `timeoutMs`; 0: once. `note` is told each failure that
 * is followed by another attempt.
 */
export async function openInTime<T>(
  connect: () => Promise<T>,
  timeoutMs: number,
  note: (reason: string) => void,
): Promise<T> {
  const deadlineMs = performance.now() + timeoutMs;
  const backOff = new BackOff();
  let noted = '';
  for (;;) {
    try {
      return await connect();
    } catch (thrown) {
      const error = asGatewayError(thrown);
      const limitMs = deadlineMs - performance.now();
      if (timeoutMs === 0 || !mayPass(error.code)) throw error;
      if (limitMs <= 0) throw tooLate(error, timeoutMs);
      // The same cause every few seconds says nothing new.
      if (error.message !== noted) note(error.message);
      noted = error.message;
      await backOff.wait({ limitMs });
    }
  }
}

function tooLate({ code, message, hint, cause }: GatewayError, timeoutMs: number): GatewayError {
  return new GatewayError(code, `${message}, tried for ${timeoutMs / 1000} s`, {
    ...(hint === undefined ? {} : { hint }),
    cause,
  });
}
