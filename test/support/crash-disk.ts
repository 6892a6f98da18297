/**
 * Owns: a file system on a disk that can lose its power: what has not reached the disk at that
 * moment never does, whatever it acknowledges after.
 * Runs in: device test processes, as root; the disk is a file below dm-flakey.
 * Must not: let a file system put itself in order before the power is lost, as unmounting does.
 */
import { closeSync, constants, mkdirSync, openSync } from 'node:fs';
import { errorOf } from './direct-file.ts';
import { must, run, shell, until } from './process.ts';
import type { Scope } from './scope.ts';

const SECTOR_BYTES = 512;
/** Nobody but fsync makes metadata durable. */
const COMMIT_S = 900;
/** Longer than any test. */
const FOREVER_S = 1_000_000;
/** Without udev, which a test's kernel need not have. */
const DMSETUP = ['dmsetup', '--noudevsync', '--noudevrules'];

type Mode = 'keeps' | 'loses';

export class CrashDisk {
  readonly folder: string;
  readonly #name: string;
  readonly #table: (mode: Mode) => string;
  #path = '';
  #isMounted = false;

  private constructor(name: string, folder: string, table: (mode: Mode) => string) {
    this.#name = name;
    this.#table = table;
    this.folder = folder;
  }

  /** An ext4 that promises no order of data and metadata but what fsync asks for. */
  static async make(scope: Scope, sizeBytes: number): Promise<CrashDisk> {
    const image = scope.path('crash-disk.img');
    await shell(`truncate -s ${sizeBytes} ${image}`);
    const loop = (await must(['losetup', '--find', '--show', image])).trim();
    scope.defer(async () => void (await must(['losetup', '--detach', loop])));
    const place = `0 ${sizeBytes / SECTOR_BYTES}`;
    const name = `unbd-crash-${process.pid}`;
    const disk = new CrashDisk(name, scope.path('crash-disk'), (mode) =>
      mode === 'keeps'
        ? `${place} linear ${loop} 0`
        : `${place} flakey ${loop} 0 0 ${FOREVER_S} 1 drop_writes`,
    );
    await must([...DMSETUP, 'create', name, '--table', disk.#table('keeps')]);
    scope.defer(async () => void (await must([...DMSETUP, 'remove', name])));
    // Its own name, since /dev/mapper is udev's.
    const info = ['info', '--columns', '--noheadings', '-o', 'blkdevname', name];
    disk.#path = `/dev/${(await must([...DMSETUP, ...info])).trim()}`;
    await must(['mkfs.ext4', '-q', disk.#path]);
    mkdirSync(disk.folder);
    await disk.mount();
    scope.defer(() => disk.#unmount());
    return disk;
  }

  async mount(): Promise<void> {
    await must(['mount', '-o', `data=writeback,commit=${COMMIT_S}`, this.#path, this.folder]);
    this.#isMounted = true;
  }

  /** From now on nothing is written. Nothing is flushed before: neither data nor a journal. */
  async losePower(): Promise<void> {
    await this.#load('loses');
  }

  /** Forgets what was not on the disk; the file system is mounted as after a crash. */
  async restart(): Promise<void> {
    await this.#unmount();
    await this.#load('keeps');
    await this.mount();
  }

  async #load(mode: Mode): Promise<void> {
    await must([...DMSETUP, 'load', this.#name, '--table', this.#table(mode)]);
    await must([...DMSETUP, 'suspend', '--nolockfs', this.#name]);
    await must([...DMSETUP, 'resume', this.#name]);
  }

  /**
   * Who has it open is waited for, and who was launched with the mounts of its time: a disk that is
   * mounted somewhere still has its page cache, and a crash loses that.
   */
  async #unmount(): Promise<void> {
    if (this.#isMounted) {
      await until('it is unmounted', async () => (await run(['umount', this.folder])).status === 0);
    }
    this.#isMounted = false;
    const opened = () => closeSync(openSync(this.#path, constants.O_RDONLY | constants.O_EXCL));
    await until('nobody has it mounted', () => errorOf(opened) === 'none');
  }
}
