/**
 * Owns: which object an entry of the cache on disk is of: its key, the name of its folder, and
 * meta.json in it, for people and for `ublk-nbd cache`.
 * Runs in: the server process and the CLI, on the JS main thread.
 * Must not: write a query, a user name or a password to disk, believe what it reads, or follow a
 * symbolic link.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { ObjectIdentity } from '../protocols/adapter.ts';

/** Of the key and of meta.json; entries of another one are never opened. */
const FORMAT_VERSION = 1;
const NAME_DIGITS = 32;
const MAXIMUM_META_BYTES = 64 * 1024;

const META_FILE = 'meta.json';
const NEW_META_FILE = 'meta.json.new';
export const MAP_FILE = 'map';
export const DATA_FILE = 'data';
/** All that an entry's folder may hold. */
export const ENTRY_FILES = [DATA_FILE, MAP_FILE, NEW_META_FILE, META_FILE] as const;

export interface EntryMeta {
  readonly version: number;
  /** Without query, fragment and user info. */
  readonly url: string;
  /** Of what else the query names, a digest; empty where it names nothing. */
  readonly query: string;
  /** As in ObjectIdentity. */
  readonly etag: string;
  readonly lastModified: string;
  /** Of the object, 1 to 2^53 - 1. */
  readonly sizeBytes: number;
  /** As the store's, a power of two, 64 KiB to 16 MiB. */
  readonly chunkBytes: number;
  /** ISO 8601. */
  readonly madeAt: string;
}

/** What is wrong with a meta.json, as a sentence's end. */
export interface BrokenMeta {
  readonly broken: string;
}

/** Whether anything beside its size tells one version of the object from another. */
export function hasValidator({ etag, lastModified }: ObjectIdentity): boolean {
  return etag !== '' || lastModified !== '';
}

export function metaOf(
  url: string,
  { sizeBytes, etag, lastModified }: ObjectIdentity,
  chunkBytes: number,
): EntryMeta {
  return {
    version: FORMAT_VERSION,
    url: publicUrl(url),
    query: queryDigest(url),
    etag,
    lastModified,
    sizeBytes: Number(sizeBytes),
    chunkBytes,
    madeAt: new Date().toISOString(),
  };
}

/** A query may be a signature, which is another one tomorrow, and is a secret today. */
function publicUrl(text: string): string {
  const url = new URL(text);
  url.username = '';
  url.password = '';
  url.search = '';
  url.hash = '';
  return url.href;
}

/** A query may choose the object, and may hold a secret; a signature does the latter alone. */
function queryDigest(text: string): string {
  const chosen = [...new URL(text).searchParams].filter(([name]) => !/^x-(amz|goog)-/i.test(name));
  if (chosen.length === 0) return '';
  return createHash('sha256').update(JSON.stringify(chosen)).digest('hex');
}

/** 64 hexadecimal digits. */
export function keyOf({ version, url, query, etag, lastModified, sizeBytes }: EntryMeta): string {
  const validator = etag === '' ? lastModified : etag;
  const canonical = JSON.stringify([version, url, query, validator, sizeBytes]);
  return createHash('sha256').update(canonical).digest('hex');
}

export function entryName(key: string): string {
  return key.slice(0, NAME_DIGITS);
}

export function isEntryName(name: string): boolean {
  return name.length === NAME_DIGITS && /^[0-9a-f]*$/.test(name);
}

/** Replaces it as a whole; whoever writes has the entry's lock. */
export async function writeMeta(folder: string, meta: EntryMeta): Promise<void> {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;
  const temporary = join(folder, NEW_META_FILE);
  const file = await open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600);
  try {
    await file.writeFile(`${JSON.stringify(meta)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, join(folder, META_FILE));
}

/** Undefined where there is no such file, nor a symbolic link or the like of that name. */
export async function readMeta(folder: string): Promise<EntryMeta | BrokenMeta | undefined> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  let text: string;
  try {
    const file = await open(join(folder, META_FILE), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      const status = await file.stat();
      if (!status.isFile()) return undefined;
      if (status.size > MAXIMUM_META_BYTES) return { broken: 'its meta.json is too long' };
      text = await file.readFile('utf8');
    } finally {
      await file.close();
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ELOOP' || code === 'ENXIO') return undefined;
    return { broken: `its meta.json cannot be read: ${code}` };
  }
  return parseMeta(text);
}

function parseMeta(text: string): EntryMeta | BrokenMeta {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { broken: 'its meta.json is no JSON' };
  }
  if (typeof value !== 'object' || value === null) return { broken: 'its meta.json is no object' };
  const { version, url, query, etag, lastModified, sizeBytes, chunkBytes, madeAt } =
    value as Partial<EntryMeta>;
  if (version !== FORMAT_VERSION) return { broken: 'it is of another version of ublk-nbd' };
  const isWhole =
    isPublicUrl(url) &&
    typeof query === 'string' &&
    typeof etag === 'string' &&
    typeof lastModified === 'string' &&
    isSize(sizeBytes) &&
    isChunkSize(chunkBytes) &&
    typeof madeAt === 'string' &&
    !Number.isNaN(Date.parse(madeAt));
  if (!isWhole) return { broken: 'its meta.json lacks what it must hold' };
  return { version, url, query, etag, lastModified, sizeBytes, chunkBytes, madeAt };
}

function isPublicUrl(value: unknown): value is string {
  if (typeof value !== 'string') return false;
  try {
    return publicUrl(value) === value;
  } catch {
    return false;
  }
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

function isChunkSize(value: unknown): value is number {
  return (
    isSize(value) && Number.isInteger(Math.log2(value)) && value >= 2 ** 16 && value <= 2 ** 24
  );
}
