/**
 * Owns: the refusal of a malformed target, and the rule for export names that all forms share.
 * Runs in: any process; pure.
 * Must not: show a secret that somebody put into a target.
 */
import { GatewayError, oneLine } from './errors.ts';

/** Longest string of the NBD protocol, bytes. */
const MAXIMUM_NAME_BYTES = 4096;

export function malformed(text: string, why: string, cure: string): GatewayError {
  const message = `target "${shown(text)}" cannot be used: ${why}`;
  return new GatewayError('UNBD_TARGET_MALFORMED', message, { hint: cure });
}

/**
 * The target without what may be secret: user names, passwords, and the query of a web address
 * (signed URLs).
 */
function shown(text: string): string {
  const withoutUser = text.replace(/^([a-z0-9+.-]*:\/\/)?[^/?#]*@/i, '$1…@');
  return oneLine(withoutUser.replace(/^((?:https?|s3):[^?#]*)[?#].*$/is, '$1?…'), 200);
}

/** NBD strings are UTF-8 without NUL, at most 4096 bytes. */
export function checkExportName(text: string, exportName: string): void {
  if (/[\0\p{Surrogate}]/u.test(exportName)) {
    throw malformed(text, 'its export name is not UTF-8 text without NUL', 'check the name');
  }
  if (Buffer.byteLength(exportName) > MAXIMUM_NAME_BYTES) {
    throw malformed(text, 'its export name is over 4096 bytes', 'check the name');
  }
}
