/**
 * Owns: reading /proc/self/mountinfo (proc_pid_mountinfo(5)).
 * Runs in: the CLI and the controller.
 * Must not: mount anything.
 */
import { readFileSync } from 'node:fs';

export interface Mount {
  readonly major: number;
  readonly minor: number;
  readonly directory: string;
  readonly fileSystem: string;
  /** What was mounted, as the file system tells it. */
  readonly source: string;
}

/** One line of mountinfo; undefined for what is none. */
export function parseMountLine(line: string): Mount | undefined {
  const [before, after] = line.split(' - ');
  const fields = before?.split(' ') ?? [];
  const numbers = /^(\d+):(\d+)$/.exec(fields[2] ?? '');
  const [fileSystem, source] = after?.split(' ') ?? [];
  const directory = fields[4];
  if (numbers === null || directory === undefined) return undefined;
  if (fileSystem === undefined || source === undefined) return undefined;
  return {
    major: Number(numbers[1]),
    minor: Number(numbers[2]),
    directory: decodeOctal(directory),
    fileSystem,
    source: decodeOctal(source),
  };
}

/** Blank, tab, newline and backslash are written in octal. */
function decodeOctal(text: string): string {
  return text.replace(/\\(\d{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

/** All mounts of our namespace, in the order in which they were made. */
export function readMounts(): Mount[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.map(parseMountLine).filter((mount) => mount !== undefined);
}

/** What is mounted at `directory`; the last one is what is seen. */
export function mountsAt(directory: string): Mount[] {
  return readMounts().filter((mount) => mount.directory === directory);
}
