/**
 * Owns: a backend that takes connections, says a greeting, and nothing more.
 * Runs in: device test processes.
 * Must not: read or close: whoever waits for it waits.
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import type { Scope } from './scope.ts';

export interface MuteBackend {
  readonly target: string;
  /** How many came so far. */
  connections(): number;
}

export async function startMute(scope: Scope, greeting = ''): Promise<MuteBackend> {
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    socket.on('error', () => undefined);
    socket.write(greeting);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  scope.defer(() => {
    server.close();
  });
  const address = server.address();
  assert(address !== null && typeof address === 'object');
  return { target: `127.0.0.1:${address.port}`, connections: () => connections };
}
