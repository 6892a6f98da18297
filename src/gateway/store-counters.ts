/**
 * Owns: what `list -v` counts of a device that is served from a store, by the names that it shows.
 * Runs in: the server process; pure.
 * Must not: tell a rate or a time of what has not happened yet.
 */
import type { SourceTraffic } from '../protocols/adapter.ts';
import type { StoreStats } from './native-store.ts';

type Counters = Readonly<Record<string, bigint | number>>;

export function storeCounters(
  { hits, misses, fills, filledBytes, ...disk }: StoreStats,
  traffic: SourceTraffic | undefined,
  { hasDisk, prefetches }: { readonly hasDisk: boolean; readonly prefetches: boolean },
): Counters {
  return {
    cacheHits: hits,
    cacheMisses: misses,
    ...hitRate(hits, misses),
    fetches: fills,
    fetchedBytes: filledBytes,
    ...(traffic === undefined ? {} : trafficCounters(traffic)),
    ...(prefetches ? { prefetchedBytes: disk.cachedBytes } : {}),
    ...(hasDisk ? disk : {}),
  };
}

function hitRate(hits: bigint, misses: bigint): Counters {
  const reads = Number(hits + misses);
  return reads === 0 ? {} : { cacheHitPercent: Math.round((Number(hits) / reads) * 1000) / 10 };
}

function trafficCounters(traffic: SourceTraffic): Counters {
  const medianMs = traffic.firstByteMs(0.5);
  const p99Ms = traffic.firstByteMs(0.99);
  return {
    originRequests: traffic.requests,
    ...(medianMs === undefined ? {} : { firstByteMedianMs: medianMs }),
    ...(p99Ms === undefined ? {} : { firstByteP99Ms: p99Ms }),
  };
}
