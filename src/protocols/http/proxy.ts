/**
 * Owns: connections to an origin through an HTTP proxy, by a tunnel (CONNECT; RFC 9110, 9.3.6), for
 * http too: what the proxy may know of a request is where it goes.
 * Runs in: server processes and the CLI, on the JS main thread.
 * Must not: look at the environment for a proxy, or keep or show a credential.
 */
import type { Socket } from 'node:net';
import { type buildConnector, Client } from 'undici';
import { SourceError } from '../source/source-error.ts';
import { readHeaderFile } from './files.ts';

export interface HttpProxy {
  readonly origin: string;
  /** Lines `Name: value` that it alone sees; read again for each tunnel. */
  readonly headerFile?: string | undefined;
}

/** `connect` does what is to be done within the tunnel. */
export function throughProxy(
  proxy: HttpProxy,
  timeoutMs: number,
  connect: buildConnector.connector,
): buildConnector.connector {
  return (options, done) => {
    tunnel(proxy, timeoutMs, authorityOf(options)).then(
      (socket) => {
        if (options.protocol === 'https:') connect({ ...options, httpSocket: socket }, done);
        else done(null, socket);
      },
      (error: Error) => done(error, null),
    );
  };
}

function authorityOf({ host = '', port, protocol }: buildConnector.Options): string {
  if (port !== '') return host;
  return `${host}:${protocol === 'https:' ? 443 : 80}`;
}

async function tunnel(proxy: HttpProxy, timeoutMs: number, authority: string): Promise<Socket> {
  const { origin, headerFile } = proxy;
  const unreachable = (why: string, cause?: unknown) =>
    new SourceError('UNBD_BACKEND_UNREACHABLE', `the proxy ${origin} ${why}`, {
      hint: 'check --proxy, and what the proxy allows',
      cause,
    });
  const headers = headerFile === undefined ? [] : [...(await readHeaderFile(headerFile))];
  // It has one connection, which is the tunnel's from then on.
  const client = new Client(origin, { connect: { timeout: timeoutMs }, headersTimeout: timeoutMs });
  try {
    const { socket, statusCode } = await client.connect({ path: authority, headers });
    if (statusCode === 200) return socket as Socket;
    socket.on('error', () => undefined).destroy();
    if (statusCode === 407) throw unauthorized(proxy);
    throw unreachable(`answers ${statusCode} to a tunnel to ${authority}`);
  } catch (error) {
    if (error instanceof SourceError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw unreachable(`gives no tunnel to ${authority} (${code ?? 'no reason'})`, error);
  } finally {
    void client.destroy().catch(() => undefined);
  }
}

function unauthorized({ origin, headerFile }: HttpProxy): SourceError {
  const text =
    headerFile === undefined
      ? `the proxy ${origin} asks for credentials`
      : `the proxy ${origin} refuses the credentials of ${headerFile}`;
  const hint =
    headerFile === undefined
      ? 'give it a Proxy-Authorization with --proxy-header-file'
      : 'check the Proxy-Authorization in that file';
  return new SourceError('UNBD_EXPORT_REFUSED', text, { hint });
}
