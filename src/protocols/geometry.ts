/**
 * Owns: whether an image can be a Linux block device, and with which logical block size.
 * Runs in: any process; pure.
 * Must not: cut or round a size: what does not fit is refused with the reason.
 */
import type { BackendInfo } from './adapter.ts';
import { GatewayError } from './errors.ts';

/** Sizes are signed 64-bit numbers in the kernel and in most backends. */
export const MAXIMUM_SIZE_BYTES = (1n << 63n) - 1n;

/** Sectors of the block layer. */
const SECTOR_BYTES = 512;

/** The driver takes logical blocks up to a page (ublk_validate_params). */
const MAXIMUM_LOGICAL_BLOCK_BYTES = 4096;

/**
 * The logical block size of the device: the largest of 512, what the backend demands and what the
 * user asked for. Throws UNBD_EXPORT_UNUSABLE with the reason, or UNBD_USAGE for a block size that
 * no device can have. `subject` names the image in the message.
 */
export function checkGeometry(
  info: BackendInfo,
  askedBlockBytes = 0,
  subject = 'the export',
): number {
  const unusable = (reason: string, hint: string) =>
    new GatewayError('UNBD_EXPORT_UNUSABLE', `${subject} cannot be a device: ${reason}`, { hint });
  if (askedBlockBytes !== 0 && !isLogicalBlock(askedBlockBytes)) {
    throw new GatewayError('UNBD_USAGE', `a block size of ${askedBlockBytes} is not possible`, {
      hint: 'use 512, 1024, 2048 or 4096',
    });
  }
  if (info.sizeBytes <= 0n) throw unusable('its size is 0', 'give it a size at the backend');
  if (info.sizeBytes > MAXIMUM_SIZE_BYTES) {
    throw unusable(`its size, ${info.sizeBytes} bytes, is over 2^63 - 1`, 'check the backend');
  }
  if (info.minimumBlockBytes > MAXIMUM_LOGICAL_BLOCK_BYTES) {
    throw unusable(
      `its smallest request is ${info.minimumBlockBytes} bytes, a device takes at most 4096`,
      'lower the minimum block size at the backend',
    );
  }
  const blockBytes = Math.max(SECTOR_BYTES, info.minimumBlockBytes, askedBlockBytes);
  const excess = info.sizeBytes % BigInt(blockBytes);
  if (excess !== 0n) {
    const missing = BigInt(blockBytes) - excess;
    throw unusable(
      `its size, ${info.sizeBytes} bytes, is not a multiple of the block size, ${blockBytes}`,
      `grow the image by ${missing} bytes, or cut ${excess}`,
    );
  }
  if (info.maximumBlockBytes < blockBytes) {
    throw unusable(
      `its largest request is ${info.maximumBlockBytes} bytes, the block size ${blockBytes}`,
      'raise the maximum block size at the backend',
    );
  }
  return blockBytes;
}

function isLogicalBlock(bytes: number): boolean {
  return (
    Number.isInteger(bytes) &&
    bytes >= SECTOR_BYTES &&
    bytes <= MAXIMUM_LOGICAL_BLOCK_BYTES &&
    (bytes & (bytes - 1)) === 0
  );
}
