/**
 * Owns: the floor of free space: a store adds nothing to its cache on disk while the file system
 * has less than that, and no download begins that would end below it.
 * Runs in: the server process, on the JS main thread.
 * Must not: throw, keep the process alive, or wait for a file system that does not answer.
 */
import { statfs } from 'node:fs/promises';
import type { Clock } from '../protocols/source/clock.ts';
import type { LogLevel } from './log.ts';

const PERIOD_MS = 5_000;
export const FLOOR_PERCENT = 5;

/** Of a file system, in its blocks; those that only root may use count as taken. */
export interface Room {
  readonly blocks: number;
  readonly bavail: number;
}

export interface RoomLinks {
  /** A folder on the file system in question, by its name for people. */
  readonly directory: string;
  /** The same folder; looked at in place of `directory`. */
  readonly at?: string;
  /** Told at each look: a store that met a full disk may try again then. */
  allow(allowed: boolean): void;
  log(level: LogLevel, text: string): void;
  readonly readRoom?: (path: string) => Promise<Room>;
  readonly timer?: Clock['timer'];
}

/** Looks at once and every five seconds; what it returns ends that. */
export function watchRoom(links: RoomLinks): () => void {
  const { directory, at = directory, readRoom = statfs, timer = unrefTimer } = links;
  let isEnded = false;
  let isAllowed = true;
  let cancel: (() => void) | undefined;
  const look = async (): Promise<void> => {
    // A file system that cannot tell changes nothing.
    const room = await readRoom(at).catch(() => undefined);
    if (isEnded) return;
    if (room !== undefined && hasRoom(room) !== isAllowed) {
      isAllowed = !isAllowed;
      links.log(...told(isAllowed, directory));
    }
    links.allow(isAllowed);
    cancel = timer(PERIOD_MS, () => void look());
  };
  void look();
  return () => {
    isEnded = true;
    cancel?.();
  };
}

/** What a file system takes before it is at the floor, bytes; undefined: it cannot tell. */
export async function roomAboveFloor(directory: string): Promise<bigint | undefined> {
  const room = await statfs(directory).catch(() => undefined);
  if (room === undefined || room.blocks === 0) return undefined;
  return BigInt(Math.max(0, blocksAboveFloor(room))) * BigInt(room.bsize);
}

/** True where the file system does not count blocks. */
function hasRoom(room: Room): boolean {
  return blocksAboveFloor(room) >= 0;
}

/** Negative: so many are missing. */
function blocksAboveFloor({ blocks, bavail }: Room): number {
  return bavail - Math.ceil((blocks * FLOOR_PERCENT) / 100);
}

function told(isAllowed: boolean, directory: string): [LogLevel, string] {
  const system = `of ${directory}'s file system is free`;
  if (isAllowed)
    return ['info', `the cache on disk takes more again: ${FLOOR_PERCENT} % ${system}`];
  const text = `the cache on disk takes no more: less than ${FLOOR_PERCENT} % ${system}`;
  return ['warning', `${text}; images are served all the same`];
}

const unrefTimer: Clock['timer'] = (afterMs, call) => {
  const handle = setTimeout(call, afterMs);
  handle.unref();
  return () => clearTimeout(handle);
};
