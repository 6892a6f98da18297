/**
 * Owns: what a process of ublk-nbd holds: descriptors and memory.
 * Runs in: device test processes, as root.
 * Must not: judge; memory is printed, never gated.
 */
import { readdirSync, readFileSync } from 'node:fs';

export interface Usage {
  readonly descriptors: number;
  readonly threads: number;
  readonly residentKib: number;
}

/** Of a process that lives. Throws ENOENT for one that does not. */
export function usageOf(pid: number): Usage {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? Number.NaN);
  return {
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    threads: field('Threads'),
    residentKib: field('VmRSS'),
  };
}

export function usageText(who: string, before: Usage, after: Usage): string {
  const change = (name: keyof Usage): string => `${before[name]} -> ${after[name]} ${name}`;
  return `${who}: ${change('descriptors')}, ${change('threads')}, ${change('residentKib')}`;
}
