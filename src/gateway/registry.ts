/**
 * Owns: the registry: one msgpack record a device under the run directory, written atomically.
 * Runs in: the controller and `connect --foreground`; several processes may write different
 * records.
 * Must not: hold a secret, hand out half a record, or fail because one record is corrupt.
 */
import { linkSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Packr } from 'msgpackr/pack';
import type { BackendInfo, ObjectIdentity } from '../protocols/adapter.ts';
import type { ConnectOptions } from './messages.ts';
import type { ProcessIdentity } from './process.ts';

export const RECORD_VERSION = 1;

/**
 * adding: recorded before ADD_DEV; what is there may be undone, also of a device that was given up.
 * live: connected. stopping: `disconnect` began; as long as the driver has the disk it may be taken
 * back. fatal: a server process answers every request with an error. dead: the server process ended
 * by itself; kept for `list` until `disconnect`.
 */
export const PHASES = ['adding', 'live', 'stopping', 'fatal', 'dead'] as const;
export type Phase = (typeof PHASES)[number];

/**
 * What ADD_DEV handed back and SET_PARAMS set, for lists and for a successor of the server process.
 */
export interface DeviceShape {
  readonly queues: number;
  readonly depth: number;
  readonly maxIoBytes: number;
  readonly sizeBytes: bigint;
  readonly readOnly: boolean;
  readonly logicalBlockBytes: number;
  /** The flags that ADD_DEV handed back; a record of an earlier version has none. */
  readonly flags?: bigint;
}

export interface DeviceRecord {
  readonly version: number;
  readonly id: number;
  /**
   * Names one launch of a server process, which says it in its hello; worth nothing outside the run
   * directory.
   */
  readonly token: string;
  readonly phase: Phase;
  readonly options: ConnectOptions;
  /** The process that decides about this device: the controller, or a `connect --foreground`. */
  readonly owner: ProcessIdentity & { readonly foreground: boolean };
  readonly connectedAtMs: number;
  readonly serverProcess?: ProcessIdentity;
  /** Of the package that it was started from. */
  readonly serverVersion?: string | undefined;
  /** As it was when the device was made; what comes later is measured by it. */
  readonly backend?: BackendInfo;
  /** Of the content then, where the export is read-only. */
  readonly fingerprint?: string;
  /** Which version of a remote object the device was made with. */
  readonly identity?: ObjectIdentity;
  readonly shape?: DeviceShape;
  /** Device nodes that we made and therefore remove. */
  readonly madeNodes: readonly string[];
  readonly reason?: string;
  /** When server processes of it crashed, as long as that counts. */
  readonly crashesAtMs?: readonly number[];
  /**
   * How far a recovery came that has not ended. started: START_USER_RECOVERY was sent. fetching:
   * and the queues of a successor may have given tags to FETCH.
   */
  readonly recovery?: 'none' | 'started' | 'fetching';
}

export interface RegistryContent {
  readonly records: readonly DeviceRecord[];
  /** Records that could not be read, and where they were put aside. */
  readonly corrupt: readonly { readonly id: number; readonly path: string }[];
}

const SUFFIX = '.msgpack';
const packr = new Packr({ useRecords: false });

export class Registry {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Writes the first record of an id; false when another process has that id. */
  claim(record: DeviceRecord): boolean {
    const temporary = this.#writeTemporary(record);
    try {
      linkSync(temporary, this.#path(record.id));
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
      throw error;
    } finally {
      rmSync(temporary, { force: true });
    }
  }

  /** Replaces the record of an id that this process claimed or adopted. */
  update(record: DeviceRecord): void {
    renameSync(this.#writeTemporary(record), this.#path(record.id));
  }

  remove(id: number): void {
    rmSync(this.#path(id), { force: true });
  }

  /** Every readable record in order of id; what cannot be read is renamed and reported, once. */
  readAll(): RegistryContent {
    const records: DeviceRecord[] = [];
    const corrupt: { id: number; path: string }[] = [];
    for (const name of readdirSync(this.#folder)) {
      const id = idOf(name);
      if (id === undefined) continue;
      const record = this.#read(id);
      if (record === 'corrupt') corrupt.push({ id, path: this.#setAside(id) });
      else if (record !== undefined) records.push(record);
    }
    records.sort((a, b) => a.id - b.id);
    return { records, corrupt };
  }

  /** Undefined when it was removed in the meantime. */
  #read(id: number): DeviceRecord | 'corrupt' | undefined {
    let bytes: Buffer;
    try {
      bytes = readFileSync(this.#path(id));
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ENOENT' ? undefined : 'corrupt';
    }
    try {
      const value: unknown = packr.unpack(bytes);
      return isRecord(value) && value.id === id ? value : 'corrupt';
    } catch {
      return 'corrupt';
    }
  }

  #setAside(id: number): string {
    const aside = `${this.#path(id)}.corrupt`;
    renameSync(this.#path(id), aside);
    return aside;
  }

  #path(id: number): string {
    return join(this.#folder, `${id}${SUFFIX}`);
  }

  #writeTemporary(record: DeviceRecord): string {
    const temporary = join(this.#folder, `.${record.id}.${process.pid}.tmp`);
    writeFileSync(temporary, packr.pack(record), { mode: 0o600 });
    return temporary;
  }
}

function idOf(name: string): number | undefined {
  if (!name.endsWith(SUFFIX)) return undefined;
  const text = name.slice(0, -SUFFIX.length);
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

/** True when every field that our code relies on is there; the rest of a record may grow. */
export function isRecord(value: unknown): value is DeviceRecord {
  if (typeof value !== 'object' || value === null) return false;
  const { version, id, token, phase, options, owner, madeNodes } = value as Partial<DeviceRecord>;
  return (
    version === RECORD_VERSION &&
    Number.isSafeInteger(id) &&
    typeof token === 'string' &&
    (PHASES as readonly unknown[]).includes(phase) &&
    typeof options?.target?.text === 'string' &&
    Number.isSafeInteger(owner?.pid) &&
    Array.isArray(madeNodes)
  );
}
