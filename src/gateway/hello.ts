/**
 * Owns: the first frame of an RPC connection, each way: who speaks, in which version.
 * Runs in: the CLI, the controller and server processes, on the JS main thread.
 * Must not: let a connection live whose other side is silent, is no ublk-nbd, or speaks another
 * version.
 */
import type { Socket } from 'node:net';
import { asGatewayError, type ErrorCode, GatewayError } from '../protocols/errors.ts';
import { encodeFrame, FrameDecoder } from './frames.ts';
import { OLDEST_RPC_VERSION, RPC_VERSION } from './messages.ts';

export type Role = 'cli' | 'controller' | 'server-process';

/** The first frame each way. */
export interface Hello {
  readonly hello: 'ublk-nbd';
  readonly version: number;
  /** The oldest version that is understood; where it is missing, no other than `version`. */
  readonly oldest?: number;
  readonly role: Role;
  readonly pid: number;
  /** What this role tells beside it; a server process its token. */
  readonly details?: unknown;
}

export interface HelloOptions {
  readonly role: Role;
  readonly details?: unknown;
  readonly helloTimeoutMs: number;
  /** The other side as messages name it: `the controller`, `the server process`. */
  readonly otherSide: string;
  /** Code of the errors that say that the connection ended. */
  readonly closedCode: ErrorCode;
}

export interface Greeted {
  readonly remote: Hello;
  readonly decoder: FrameDecoder;
  /** Messages that came in the same read as the hello. */
  readonly early: readonly unknown[];
}

/**
 * Says hello and waits for the other's. Destroys the socket when it rejects; else leaves it paused.
 */
export function exchangeHello(socket: Socket, options: HelloOptions): Promise<Greeted> {
  const decoder = new FrameDecoder();
  return new Promise((resolve, reject) => {
    const release = (): void => {
      clearTimeout(timer);
      socket.removeListener('data', onData);
      socket.removeListener('close', onClose);
    };
    const fail = (error: GatewayError): void => {
      release();
      socket.destroy();
      reject(error);
    };
    const onClose = (): void => fail(closedError(options, 'closed the connection'));
    const onData = (chunk: Buffer): void => {
      try {
        const messages = decoder.push(chunk);
        if (messages.length === 0) return;
        const remote = checkHello(messages[0], options);
        release();
        socket.pause();
        resolve({ remote, decoder, early: messages.slice(1) });
      } catch (error) {
        fail(asGatewayError(error));
      }
    };
    const timer = setTimeout(
      () => fail(closedError(options, `did not answer in ${options.helloTimeoutMs} ms`)),
      options.helloTimeoutMs,
    );
    // 'close' follows every 'error'; without a listener the error would end this process.
    socket.on('error', () => undefined);
    socket.on('close', onClose);
    socket.on('data', onData);
    const { role, details } = options;
    const versions = { version: RPC_VERSION, oldest: OLDEST_RPC_VERSION };
    const hello: Hello = { hello: 'ublk-nbd', ...versions, role, pid: process.pid, details };
    socket.write(encodeFrame(hello));
  });
}

export function closedError(options: HelloOptions, what: string): GatewayError {
  return new GatewayError(options.closedCode, `${options.otherSide} ${what}`, {
    hint: 'see: ublk-nbd logs',
  });
}

export function notAMessage(): GatewayError {
  return new GatewayError('UNBD_CONTROLLER', 'a frame without a message came in');
}

function checkHello(message: unknown, options: HelloOptions): Hello {
  const hello = message as Partial<Hello> | null;
  const isHello =
    typeof hello === 'object' &&
    hello?.hello === 'ublk-nbd' &&
    Number.isSafeInteger(hello.version) &&
    Number.isSafeInteger(hello.oldest ?? hello.version) &&
    Number.isSafeInteger(hello.pid) &&
    typeof hello.role === 'string';
  if (!isHello) throw notAMessage();
  const { version, oldest = version, pid } = hello as Hello;
  // What both understand is spoken: the newer of the two knows what the older does not.
  if (version < OLDEST_RPC_VERSION || oldest > RPC_VERSION) {
    const text = `${options.otherSide} speaks version ${version}, this program ${RPC_VERSION}`;
    throw new GatewayError('UNBD_VERSION', text, {
      hint: `end it with: kill ${pid} (devices stay), then run the command again`,
    });
  }
  return hello as Hello;
}
