/**
 * Owns: what may not be there when no device is wanted any more, and the way to be rid of it.
 * Runs in: device test processes, as root.
 * Must not: touch what is not ublk-nbd's; a device of another program is neither reported nor
 * removed.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { packageFolder } from './package-folder.ts';
import { run, until } from './process.ts';
import { commandOf, sanitizerReports } from './product.ts';

const runFolder = process.env.UBLK_NBD_RUN_DIR ?? '/run/ublk-nbd';

/** How long what ends by itself may take: a process that was told to, a node that udev removes. */
const SETTLE_MS = 30_000;

/** In the environment of a server process that is started before it is needed. */
const SPARE_VARIABLE = '\0UBLK_NBD_SERVER_SPARE=1\0';

function entries(folder: string, pattern: RegExp): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => pattern.test(name))
    .map((name) => join(folder, name));
}

/** Every process of ublk-nbd but the controller, which outlives its devices: `pid command`. */
function processes(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
        const ours = /ublk-nbd(-helper|: |\.js)|gateway\/(server|controller)-main/.test(command);
        const stays = /ublk-nbd: (controller|spare)|controller-main/.test(command);
        const isLeft = ours && !stays && !willBeSpare(pid, command);
        return isLeft && isAlive(pid) ? [`process ${pid}: ${command}`] : [];
      } catch {
        return [];
      }
    });
}

/** It has been started for that, and says so as soon as node runs. */
function willBeSpare(pid: string, command: string): boolean {
  const isStarting = /server-main/.test(command);
  return isStarting && readFileSync(`/proc/${pid}/environ`, 'utf8').includes(SPARE_VARIABLE);
}

/** Not a zombie; throws when it is not there at all. */
function isAlive(pid: string): boolean {
  return !/^.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
}

/** The controller's process, where one runs. */
export function controllerPid(): number | undefined {
  return pidOf(/ublk-nbd: controller|controller-main/);
}

/** The prepared server process, where there is one. */
export function sparePid(): number | undefined {
  return pidOf(/ublk-nbd: spare/);
}

/** A server process that serves, or is about to; of a device that `list` may not have yet. */
export function anyServerPid(): number | undefined {
  return pidOf(/ublk-nbd: server process/);
}

function pidOf(pattern: RegExp): number | undefined {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const command = readFileSync(`/proc/${name}/cmdline`, 'utf8');
      if (pattern.test(command) && isAlive(name)) return Number(name);
    } catch {
      // It ended while we looked.
    }
  }
  return undefined;
}

/** Everything of ublk-nbd that is there, one line each. */
export function leftovers(): string[] {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  return [
    ...entries('/dev', /^ublk[bc]\d/),
    ...entries('/sys/block', /^ublkb\d/),
    ...entries('/sys/class/ublk-char', /^ublkc\d/),
    ...entries('/dev/ublk-nbd', /./),
    ...entries(join(runFolder, 'devices'), /^[^.].*\.msgpack$/),
    ...entries(runFolder, /^foreground-/),
    ...mounts.filter((line) => line.startsWith('/dev/ublk')).map((line) => `mount: ${line}`),
    ...processes(),
    ...entries(dirname(sanitizerReports), new RegExp(`^${basename(sanitizerReports)}`)).map(
      (path) => `${path}: ${readFileSync(path, 'utf8')}`,
    ),
  ];
}

/**
 * Rejects, naming them, when there are leftovers that do not go away by themselves; then removes
 * them.
 */
export async function assertNothingLeft(): Promise<void> {
  let left: string[] = [];
  try {
    await until(
      'nothing is left',
      () => {
        left = leftovers();
        return left.length === 0;
      },
      SETTLE_MS,
    );
  } catch {
    await sweep();
    throw new Error(`left behind:\n  ${left.join('\n  ')}`);
  }
}

/** Removes what is left, so that the next test starts from nothing. */
export async function sweep(): Promise<void> {
  for (const line of readFileSync('/proc/self/mounts', 'utf8').split('\n')) {
    const [device, folder] = line.split(' ');
    if (device?.startsWith('/dev/ublk') && folder) await run(['umount', '--lazy', folder]);
  }
  await run(commandOf('disconnect', '--all', '--force'), { timeoutMs: 120_000 }).catch(
    () => undefined,
  );
  for (const line of processes()) kill(Number(/^process (\d+)/.exec(line)?.[1]));
  const pid = controllerPid();
  if (pid !== undefined) kill(pid);
  const helper = join(packageFolder, 'build', 'Release', 'ublk-nbd-helper');
  for (const node of entries('/dev', /^ublkc\d/)) {
    const id = /\d+$/.exec(node)?.[0] ?? '';
    for (const command of ['stop', 'del']) {
      await run([helper, command, id], { timeoutMs: 20_000 }).catch(() => undefined);
    }
  }
  rmSync(runFolder, { recursive: true, force: true });
  rmSync('/dev/ublk-nbd', { recursive: true, force: true });
  for (const path of entries(dirname(sanitizerReports), /^ublk-nbd-sanitizer/)) rmSync(path);
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}
