/**
 * Owns: what every adapter has to do alike, as one run on a device; a reference disk decides.
 * Runs in: device test processes.
 * Must not: know an adapter; what differs between them is told by whoever calls.
 */
import assert from 'node:assert/strict';
import { isBrief, isFull, isLeast } from './amount.ts';
import { blockdevNumber, MIB } from './block.ts';
import { DirectDisk, errorOfAsync, type Range } from './direct-disk.ts';
import { describe, must, run } from './process.ts';
import { type Random, randomFrom } from './random.ts';
import { ReferenceDisk, SECTOR_BYTES } from './reference-disk.ts';

/** Requests at once; the disk has a part for each, and libuv four threads. */
const DEPTHS = [1, 2, 4];
const ROUNDS = isFull ? 100 : isLeast ? 5 : isBrief ? 12 : 40;
const SEED = 4;
const LONGEST_BYTES = MIB;

export interface Subject {
  readonly path: string;
  /** Its content now; its length is the size that the device has to have. */
  readonly content: Buffer;
  /** `null` takes every write and keeps none. */
  readonly kind: 'writable' | 'null' | 'read-only';
}

/** Resolves with what is there in the end, for a look at it from elsewhere. */
export async function assertConforms(subject: Subject): Promise<ReferenceDisk> {
  const { path, content, kind } = subject;
  assert.equal(await blockdevNumber('--getsize64', path), content.length, 'its size is exact');
  assert.equal(await blockdevNumber('--getro', path), Number(kind === 'read-only'));
  const disk = await DirectDisk.open(path, Math.max(...DEPTHS), LONGEST_BYTES);
  const conformance = new Conformance(subject, disk);
  try {
    await conformance.endsWhereItEnds();
    if (kind === 'read-only') await conformance.refusesWrites();
    else await conformance.discards();
    for (const depth of DEPTHS) {
      for (let round = 0; round < ROUNDS; round += 1) await conformance.round(depth);
      await conformance.readAll();
    }
    await disk.sync();
  } finally {
    await disk.close();
  }
  return conformance.reference;
}

class Conformance {
  readonly reference: ReferenceDisk;
  readonly #path: string;
  readonly #kind: Subject['kind'];
  readonly #disk: DirectDisk;
  readonly #random: Random = randomFrom(SEED);

  constructor({ path, content, kind }: Subject, disk: DirectDisk) {
    this.reference = new ReferenceDisk(content);
    this.#path = path;
    this.#kind = kind;
    this.#disk = disk;
  }

  async readAll(): Promise<void> {
    const { sizeBytes } = this.reference;
    for (let offsetBytes = 0; offsetBytes < sizeBytes; offsetBytes += LONGEST_BYTES) {
      await this.#read({
        offsetBytes,
        lengthBytes: Math.min(LONGEST_BYTES, sizeBytes - offsetBytes),
      });
    }
  }

  async endsWhereItEnds(): Promise<void> {
    const { sizeBytes } = this.reference;
    const last = sizeBytes - SECTOR_BYTES;
    const beyond = await this.#disk.read({ offsetBytes: sizeBytes, lengthBytes: SECTOR_BYTES });
    assert.equal(beyond.length, 0, 'nothing is behind the end');
    const across = await this.#disk.read({ offsetBytes: last, lengthBytes: 2 * SECTOR_BYTES });
    assert.equal(across.length, SECTOR_BYTES, 'a read across the end ends there');
    this.reference.check(last, across);
    if (this.#kind === 'read-only') return;
    const write = this.#disk.write(sizeBytes, this.#someBytes(SECTOR_BYTES));
    assert.equal(await errorOfAsync(write), 'ENOSPC', 'nothing can be written there');
  }

  async refusesWrites(): Promise<void> {
    for (const how of ['plain', 'durable'] as const) {
      const write = this.#disk.write(0, this.#someBytes(SECTOR_BYTES), how);
      assert.equal(await errorOfAsync(write), 'EPERM');
    }
    for (const option of [[], ['--zeroout']]) {
      const outcome = await run(['blkdiscard', '--force', ...option, this.#path]);
      assert.notEqual(outcome.status, 0, describe(outcome));
    }
  }

  /** Of each kind one at least, and what lies beside it is as it was. */
  async discards(): Promise<void> {
    const sectors = Math.floor(this.reference.sizeBytes / SECTOR_BYTES);
    for (const isZeroed of [false, true]) await this.#discard(this.#rangeIn(0, sectors), isZeroed);
    await this.readAll();
  }

  /** So many requests at once, of any kind; each has a part of the disk to itself. */
  async round(depth: number): Promise<void> {
    const sectors = Math.floor(this.reference.sizeBytes / SECTOR_BYTES / depth);
    await Promise.all(
      Array.from({ length: depth }, (_, part) =>
        this.#request(this.#rangeIn(part * sectors, sectors)),
      ),
    );
  }

  async #request(range: Range): Promise<void> {
    const kind = this.#kind === 'read-only' ? 0 : this.#random(24);
    if (kind < 8) await this.#read(range);
    else if (kind < 16) await this.#write(range, 'plain');
    else if (kind < 20) await this.#write(range, 'durable');
    else if (kind < 22) await this.#disk.sync();
    else await this.#discard(range, kind === 22);
  }

  async #read(range: Range): Promise<void> {
    const bytes = await this.#disk.read(range);
    assert.equal(bytes.length, range.lengthBytes);
    this.reference.check(range.offsetBytes, bytes);
  }

  async #write({ offsetBytes, lengthBytes }: Range, how: 'plain' | 'durable'): Promise<void> {
    const bytes = this.#someBytes(lengthBytes);
    assert.equal(await this.#disk.write(offsetBytes, bytes, how), lengthBytes);
    if (this.#kind !== 'null') this.reference.wrote(offsetBytes, bytes);
  }

  async #discard({ offsetBytes, lengthBytes }: Range, isZeroed: boolean): Promise<void> {
    const place = ['--offset', String(offsetBytes), '--length', String(lengthBytes)];
    // Two at once would each want the disk for itself.
    await must(['blkdiscard', '--force', ...place, ...(isZeroed ? ['--zeroout'] : []), this.#path]);
    if (isZeroed) this.reference.wrote(offsetBytes, Buffer.alloc(lengthBytes));
    else this.reference.discarded({ offsetBytes, lengthBytes });
  }

  /** Any alignment; as often short as long. */
  #rangeIn(firstSector: number, sectors: number): Range {
    const longest = Math.min(sectors, LONGEST_BYTES / SECTOR_BYTES);
    const limits = [1, 8, 64, longest];
    const length = 1 + this.#random(limits[this.#random(limits.length)] ?? 1);
    const first = firstSector + this.#random(sectors - length + 1);
    return { offsetBytes: first * SECTOR_BYTES, lengthBytes: length * SECTOR_BYTES };
  }

  #someBytes(lengthBytes: number): Buffer {
    const bytes = Buffer.alloc(lengthBytes);
    const seed = this.#random(0xffff_ffff);
    for (let at = 0; at < lengthBytes; at += 8) {
      bytes.writeUInt32LE(seed, at);
      bytes.writeUInt32LE(at, at + 4);
    }
    return bytes;
  }
}
