/**
 * Owns: http:// and https:// targets: which web addresses can be one, and what of an address may
 * be shown.
 * Runs in: any process; pure.
 * Must not: repeat a user name, password or query in a message: queries of signed addresses are
 * keys.
 */
import { oneLine } from '../errors.ts';
import { malformed } from '../target-error.ts';

/** What stands in a text for a query that it does not show. */
const HIDDEN_QUERY = '?…';

const CURE = 'write https://HOST[:PORT]/PATH';

/**
 * The address in the form of the URL standard, with its query. Throws UNBD_TARGET_MALFORMED for
 * what is no address (RFC 9110, 4.2), and for credentials or a fragment in it: a fragment is never
 * sent (4.2.5), and a target is seen by all users of the machine (ps).
 */
export function parseHttpUrl(text: string, scheme: string): string {
  const authority = /^[^:]*:\/\/([^/?#]*)/.exec(text)?.[1] ?? '';
  if (authority.includes('@')) {
    const why = 'it holds a user name or password';
    throw malformed(text, why, 'credentials belong in --header-file');
  }
  if (text.includes('#')) {
    throw malformed(text, 'it has a fragment', 'leave out what begins with #, or write # as %23');
  }
  if (text.endsWith(HIDDEN_QUERY)) {
    throw malformed(text, 'its query is left out', 'give the whole address');
  }
  // A target that is no address may be one with a password that was cut in the wrong place.
  const shown = `${scheme}://…`;
  if (/[\s\\\p{Cc}]/u.test(text)) {
    throw malformed(shown, 'it holds a space, control character or backslash', 'encode it: %20');
  }
  const url = authority === '' ? null : parse(text);
  if (url === null) throw malformed(shown, 'it is not a web address', CURE);
  if (url.port === '0') throw malformed(text, 'its port is not valid', CURE);
  return url.href;
}

/** URL.parse of newer versions of Node. */
function parse(text: string): URL | null {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}

/** Origin and path of an address, and a mark where it has a query. */
export function httpText(url: string): string {
  return `${addressText(new URL(url))}${url.includes('?') ? HIDDEN_QUERY : ''}`;
}

/** Origin and path, for messages. */
export function addressText(url: URL): string {
  return oneLine(`${url.origin}${url.pathname}`, 4096);
}
