/**
 * Owns: an object of a web server or in S3 opened for a device, at its first connect and for a
 * successor.
 * Runs in: the server process, on the JS main thread.
 * Must not: serve bytes of another object than the one that the device was made with.
 */
import assert from 'node:assert/strict';
import type { ObjectIdentity, ObjectTarget, Source } from '../protocols/adapter.ts';
import { checkGeometry } from '../protocols/geometry.ts';
import type { OpenBackend, Serving } from './backend.ts';
import { type HttpCache, openCache } from './http-cache.ts';
import { spool } from './http-spool.ts';
import { log } from './log.ts';
import type { ConnectOptions } from './messages.ts';
import type { Addon } from './native.ts';
import { openInTime } from './open-in-time.ts';
import { openSource } from './open-source.ts';
import { wantedQueues } from './params.ts';
import type { BackendEvent, StartArgument } from './server-messages.ts';
import { fillUnitOf, StoreLife } from './store-life.ts';

/** Rejects with the reason when the object, or the folder of its cache, cannot be read or used. */
export async function openHttpBackend(
  addon: Addon,
  target: ObjectTarget,
  options: ConnectOptions,
  processors: number,
  progress: (text: string) => void = () => undefined,
): Promise<OpenBackend> {
  // Of the cache: the device that it is about has no number yet.
  const warnings: string[] = [];
  const source = await openInTime(
    () => openSource(target, options, { addon }),
    options.openTimeoutMs ?? 0,
    (reason) => log('warning', undefined, `${target.text}: ${reason}; it is tried again`),
  );
  try {
    const { identity } = source;
    const info = { ...source.info, preferredBlockBytes: fillUnitOf(options) };
    wantedQueues(options, info, processors);
    // What would be refused afterwards leaves nothing on the disk.
    checkGeometry(info, options.blockSizeBytes, target.text);
    const openCache = (warn: (text: string) => void) =>
      cacheFor(addon, target, options, identity, false, warn);
    const cache =
      source.readWhole === undefined
        ? await openCache((text) => void warnings.push(text))
        : await spool(source, { target, options, openCache, progress });
    return {
      info,
      connections: undefined,
      identity,
      serve: (start, told) => {
        for (const text of warnings) log('warning', start.devId, text);
        void cache?.removeOthers();
        return storeLife(addon, source, start, told, cache);
      },
      close: () => {
        cache?.close();
        void source.close();
      },
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** A successor's: each of its reads is checked against the object of its predecessor. */
export async function serveHttpAgain(
  addon: Addon,
  target: ObjectTarget,
  start: StartArgument,
  told: (event: BackendEvent) => void,
): Promise<Serving> {
  const { options, identity } = start.record;
  assert(identity !== undefined, 'the device was made with an object');
  const source = await openSource(target, options, { addon, expected: identity });
  const warn = (text: string): void => log('warning', start.devId, text);
  const cache = await cacheFor(addon, target, options, identity, true, warn);
  return storeLife(addon, source, start, told, cache);
}

async function cacheFor(
  addon: Addon,
  target: ObjectTarget,
  options: ConnectOptions,
  identity: ObjectIdentity,
  isSuccessor: boolean,
  warn: (text: string) => void,
): Promise<HttpCache | undefined> {
  if (options.cacheDirectory === undefined) return undefined;
  const url = await urlOf(target, options);
  const request = { url, identity, options, isSuccessor, warn };
  return openCache((spec) => new addon.CacheFile(spec), request);
}

/** What tells the object from all others on the disk. */
async function urlOf(target: ObjectTarget, { s3 }: ConnectOptions): Promise<string> {
  if (target.kind === 'http') return target.url;
  const { objectName } = await import('../protocols/s3/endpoint.ts');
  return objectName(target, s3?.endpoint);
}

function storeLife(
  addon: Addon,
  source: Source,
  start: StartArgument,
  told: (event: BackendEvent) => void,
  cache: HttpCache | undefined,
): StoreLife {
  try {
    return new StoreLife(addon, source, start, told, cache);
  } catch (error) {
    // Whoever comes next needs its lock.
    cache?.close();
    throw error;
  }
}
