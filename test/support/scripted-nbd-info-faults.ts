/**
 * Owns: misbehaviour in what a backend tells about its export: NBD_REP_INFO, sizes, flags, block
 * sizes, each with the error that its user has to see.
 * Runs in: test processes.
 * Must not: be trimmed to what happens to pass.
 */
import { ALL_FLAGS } from './scripted-nbd-backend.ts';
import {
  type HandshakeFault,
  informs,
  set,
  unusable,
  violation,
  WORKS,
} from './scripted-nbd-faults.ts';
import { FLAG, INFO, infoBlockSize, infoExport, infoText, u16 } from './scripted-nbd-wire.ts';

const SIZE = 4n << 20n;
const EXPORT = infoExport(SIZE, ALL_FLAGS);
const BLOCKS_4K = infoBlockSize(4096, 4096, 1 << 20);

const manyInfos = (count: number, info: Buffer) => Array.from({ length: count }, () => info);

export const infoFaults: readonly HandshakeFault[] = [
  informs('go-ack-without-info-export', violation(/without NBD_INFO_EXPORT/), BLOCKS_4K),
  informs('info-without-a-type', violation(/NBD_REP_INFO of 1 bytes/), Buffer.of(0)),
  informs('info-export-of-11-bytes', violation(/11 bytes/), EXPORT.subarray(0, 11)),
  informs('info-export-of-13-bytes', violation(/13 bytes/), Buffer.concat([EXPORT, Buffer.of(0)])),
  informs('block-size-of-13-bytes', violation(/13 bytes/), EXPORT, BLOCKS_4K.subarray(0, 13)),
  informs(
    'block-size-of-15-bytes',
    violation(/15 bytes/),
    Buffer.concat([BLOCKS_4K, u16(0)]).subarray(0, 15),
  ),
  informs('unknown-info-of-64-kib', WORKS, Buffer.alloc(65536, 0x4d), EXPORT),
  informs('endless-info', violation(/more than 64/), ...manyInfos(200, EXPORT)),
  informs(
    'endless-unknown-info',
    violation(/1048576 bytes/),
    ...manyInfos(60, Buffer.alloc(60000, 0x4d)),
  ),
  informs('info-export-twice-last-counts', WORKS, infoExport(12345n, ALL_FLAGS), EXPORT),
  informs(
    'size-not-a-multiple-of-a-later-minimum',
    unusable(/not a multiple of the block size, 4096/),
    infoExport(SIZE + 512n, ALL_FLAGS),
    BLOCKS_4K,
  ),
  informs(
    'size-not-a-multiple-of-an-earlier-minimum',
    unusable(/not a multiple of the block size, 4096/),
    BLOCKS_4K,
    infoExport(SIZE + 512n, ALL_FLAGS),
  ),
  informs(
    'export-name-of-4097-bytes',
    violation(/4097/),
    EXPORT,
    infoText(INFO.name, 'n'.repeat(4097)),
  ),
  informs(
    'description-of-4097-bytes',
    violation(/4097/),
    EXPORT,
    infoText(INFO.description, 'd'.repeat(4097)),
  ),
  informs('name-with-control-characters', WORKS, EXPORT, infoText(INFO.name, 'a\x1b[31m\nb\u202e')),
  informs('size-twice-and-last-is-zero', unusable(/size is 0/), EXPORT, infoExport(0n, ALL_FLAGS)),
];

const blocks = (minimum: number, preferred: number, maximum: number) => ({
  blockBytes: [minimum, preferred, maximum] as const,
});
const badBlocks = violation(/block sizes are not valid/);

export const exportFaults: readonly HandshakeFault[] = [
  set('size-is-0', unusable(/size is 0/), { sizeBytes: 0n }),
  set('size-is-0-after-fallback', unusable(/size is 0/), { sizeBytes: 0n, knowsGo: false }),
  set('size-is-2-to-the-63', unusable(/2\^63/), { sizeBytes: 1n << 63n }),
  set('size-is-all-ones', unusable(/2\^63/), { sizeBytes: (1n << 64n) - 1n }),
  set('size-is-odd', unusable(/not a multiple of the block size, 512/), { sizeBytes: 4194305n }),
  set('flags-lack-has-flags', violation(/NBD_FLAG_HAS_FLAGS/), { transmissionFlags: FLAG.flush }),
  set('flags-lack-has-flags-after-fallback', violation(/NBD_FLAG_HAS_FLAGS/), {
    transmissionFlags: 0,
    knowsGo: false,
  }),
  set('unknown-transmission-flags', WORKS, { transmissionFlags: ALL_FLAGS | 0xf600 }),
  set('minimum-block-is-0', badBlocks, blocks(0, 4096, 1 << 20)),
  set('minimum-block-is-not-a-power-of-two', badBlocks, blocks(1536, 4096, 1 << 20)),
  set('minimum-block-is-128-kib', badBlocks, blocks(131072, 131072, 1 << 20)),
  set('minimum-block-is-64-kib', unusable(/65536/), blocks(65536, 65536, 1 << 20)),
  set('preferred-block-is-not-a-power-of-two', badBlocks, blocks(512, 5000, 1 << 20)),
  set('preferred-block-is-below-512', badBlocks, blocks(1, 256, 1 << 20)),
  set('preferred-block-is-below-minimum', badBlocks, blocks(4096, 512, 1 << 20)),
  set('maximum-block-is-below-preferred', badBlocks, blocks(512, 65536, 4096)),
  set('maximum-block-is-0', badBlocks, blocks(512, 4096, 0)),
  set('maximum-block-is-odd', WORKS, blocks(512, 4096, 99999)),
  set('maximum-block-is-unlimited', WORKS, blocks(512, 4096, 0xffffffff)),
  set('no-block-sizes', WORKS, { blockBytes: undefined }),
];
