/**
 * Owns: an HTTP object opened for a device, at its first connect and for a successor.
 * Runs in: the server process, on the JS main thread.
 * Must not: serve bytes of another object than the one that the device was made with.
 */
import assert from 'node:assert/strict';
import type { ObjectIdentity, Source } from '../protocols/adapter.ts';
import { type HttpTarget, openHttp } from '../protocols/http/source.ts';
import type { OpenBackend, Serving } from './backend.ts';
import { log } from './log.ts';
import type { ConnectOptions } from './messages.ts';
import type { Addon } from './native.ts';
import { openInTime } from './open-in-time.ts';
import { wantedQueues } from './params.ts';
import type { BackendEvent, StartArgument } from './server-messages.ts';
import { StoreLife } from './store-life.ts';

/** `expected`: the object as it was when the device was made; nothing is asked for then. */
export function openSource(
  target: HttpTarget,
  { handshakeTimeoutMs, caFile, headerFile }: ConnectOptions,
  expected?: ObjectIdentity,
): Promise<Source> {
  return openHttp(target, {
    timeoutMs: handshakeTimeoutMs,
    ...(expected === undefined ? {} : { expected }),
    ...(caFile === undefined ? {} : { caFile }),
    ...(headerFile === undefined ? {} : { headerFile }),
  });
}

/** Rejects with the reason when the object cannot be read or used. */
export async function openHttpBackend(
  addon: Addon,
  target: HttpTarget,
  options: ConnectOptions,
  processors: number,
): Promise<OpenBackend> {
  const source = await openInTime(
    () => openSource(target, options),
    options.openTimeoutMs ?? 0,
    (reason) => log('warning', undefined, `${target.text}: ${reason}; it is tried again`),
  );
  try {
    const { info, identity } = source;
    wantedQueues(options, info, processors);
    return {
      info,
      connections: undefined,
      identity,
      serve: (start, told) => new StoreLife(addon, source, start, told),
      close: () => void source.close(),
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** A successor's: each of its reads is checked against the object of its predecessor. */
export async function serveHttpAgain(
  addon: Addon,
  target: HttpTarget,
  start: StartArgument,
  told: (event: BackendEvent) => void,
): Promise<Serving> {
  const { options, identity } = start.record;
  assert(identity !== undefined, 'the device was made with an object');
  const source = await openSource(target, options, identity);
  return new StoreLife(addon, source, start, told);
}
