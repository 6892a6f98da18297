/**
 * Owns: what the address of a proxy may be.
 * Runs in: any process; pure.
 * Must not: accept a credential, or repeat one in a message.
 */
import { GatewayError } from '../errors.ts';

/** The origin of the proxy. Throws UNBD_USAGE for what is no proxy of this kind. */
export function parseProxy(text: string): string {
  const refused = (why: string, hint: string) =>
    new GatewayError('UNBD_USAGE', `the proxy cannot be used: ${why}`, { hint });
  const write = 'write http://HOST[:PORT]';
  if (!/^http:\/\/[^/]/i.test(text)) throw refused('it is not an http:// address', write);
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw refused('it is not an address', write);
  }
  if (url.username !== '' || url.password !== '' || /^[^:]*:\/\/[^/?#]*@/.test(text)) {
    const why = 'it holds a user name or password, which all users of the machine would see';
    throw refused(why, 'give the proxy a Proxy-Authorization with --proxy-header-file');
  }
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '' || url.port === '0') {
    throw refused('there is more than a host and a port in it', write);
  }
  return url.origin;
}
