/**
 * Owns: naming who holds a disk: mount points, swap, devices stacked on it, processes that have it
 * open.
 * Runs in: the controller and `connect --foreground`, before a disconnect and when one was refused.
 * Must not: open the disk, or take long: it looks at a bounded number of processes.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { readMounts } from './mount-table.ts';
import { entriesIfThere, readIfThere } from './sysfs.ts';

const MAXIMUM_NAMED = 4;
const MAXIMUM_PROCESSES = 10_000;
/** The name of its process, as the kernel cuts it. */
const HELPER = 'ublk-nbd-helper';

export interface Holders {
  /** `mounted at /mnt, open in mkfs (pid 12)`; empty when nobody uses the disk. */
  readonly users: string;
  /** A helper of ours that waits for the backend cannot be ended, and is no user. */
  readonly hasHelper: boolean;
}

/** Looks at every process once. */
export function findHolders(id: number): Holders {
  const disk = `ublkb${id}`;
  const processes = processesWith(disk);
  const openIn = processes
    .filter(({ name }) => name !== HELPER)
    .map(({ name, pid }) => `open in ${name} (pid ${pid})`);
  const found = [...mountsOn(disk), ...swapsOn(disk), ...stackedOn(disk), ...openIn];
  const more = found.length - MAXIMUM_NAMED;
  const named = found.slice(0, MAXIMUM_NAMED).join(', ');
  return {
    users: more > 0 ? `${named} and ${more} more` : named,
    hasHelper: openIn.length < processes.length,
  };
}

/** The disk and its partitions as /sys has them: folder and device number. */
function devicesOf(disk: string): { readonly name: string; readonly number: string }[] {
  const folder = `/sys/block/${disk}`;
  const partitions = entriesIfThere(folder).filter((name) => name.startsWith(`${disk}p`));
  return [disk, ...partitions].map((name) => {
    const path = name === disk ? `${folder}/dev` : `${folder}/${name}/dev`;
    return { name, number: readIfThere(path)?.trim() ?? '' };
  });
}

function mountsOn(disk: string): string[] {
  const devices = devicesOf(disk);
  const isOn = (number: string, source: string): boolean =>
    devices.some((device) => device.number === number || source === `/dev/${device.name}`);
  return readMounts()
    .filter(({ major, minor, source }) => isOn(`${major}:${minor}`, source))
    .map((mount) => `mounted at ${mount.directory}`);
}

function swapsOn(disk: string): string[] {
  const lines = readFileSync('/proc/swaps', 'utf8').split('\n').slice(1);
  return lines.some((line) => isNodeOf(disk, line.split(/\s/)[0] ?? '')) ? ['used as swap'] : [];
}

function stackedOn(disk: string): string[] {
  return devicesOf(disk).flatMap(({ name }) => {
    const holders = entriesIfThere(`/sys/class/block/${name}/holders`);
    return holders.map((holder) => `below ${holder}`);
  });
}

function processesWith(disk: string): { readonly name: string; readonly pid: string }[] {
  const found: { name: string; pid: string }[] = [];
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  for (const pid of pids.slice(0, MAXIMUM_PROCESSES)) {
    try {
      const files = readdirSync(`/proc/${pid}/fd`);
      if (!files.some((fd) => isNodeOf(disk, readlinkSync(`/proc/${pid}/fd/${fd}`)))) continue;
      found.push({ name: readFileSync(`/proc/${pid}/comm`, 'utf8').trim(), pid });
    } catch {
      // The process or the descriptor is gone.
    }
  }
  return found;
}

function isNodeOf(disk: string, path: string): boolean {
  return path === `/dev/${disk}` || (path.startsWith(`/dev/${disk}p`) && /p\d+$/.test(path));
}
