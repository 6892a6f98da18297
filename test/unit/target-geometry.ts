/**
 * Goal: an image becomes a device with a block size that it can bear, or is refused with a reason.
 * Method: the rule over a table of sizes.
 */
import t from 'tap';
import type { BackendInfo } from '../../src/protocols/adapter.ts';
import { GatewayError } from '../../src/protocols/errors.ts';
import { checkGeometry } from '../../src/protocols/geometry.ts';

function image(sizeBytes: bigint, minimumBlockBytes = 1, maximumBlockBytes = 32 << 20) {
  const info: BackendInfo = {
    sizeBytes,
    readOnly: false,
    canFlush: true,
    canFua: true,
    canTrim: true,
    canWriteZeroes: true,
    canFastZero: false,
    canMultiConn: true,
    rotational: false,
    minimumBlockBytes,
    preferredBlockBytes: 4096,
    maximumBlockBytes,
  };
  return info;
}

function refusal(info: BackendInfo, asked?: number): string {
  try {
    checkGeometry(info, asked, 'image x');
  } catch (error) {
    if (error instanceof GatewayError) return error.line;
  }
  throw new Error('was not refused');
}

t.test('the largest of 512, the minimum and what was asked for is the block size', async (t) => {
  t.equal(checkGeometry(image(512n)), 512);
  t.equal(checkGeometry(image(8192n, 1024)), 1024);
  t.equal(checkGeometry(image(8192n, 1024), 512), 1024);
  t.equal(checkGeometry(image(8192n, 1024), 4096), 4096);
  t.equal(checkGeometry(image((1n << 63n) - 512n)), 512);
});

t.test('a size is never cut silently', async (t) => {
  t.match(refusal(image(513n)), /image x.*513 bytes.*block size, 512.*grow .* by 511.*cut 1 /);
  t.match(refusal(image(4608n, 4096)), /block size, 4096; grow the image by 3584/);
  t.match(refusal(image(512n), 4096), /block size, 4096.*UNBD_EXPORT_UNUSABLE/);
  t.match(refusal(image(0n)), /size is 0/);
  t.match(refusal(image(1n << 63n)), /2\^63/);
});

t.test('a block size that no device can have is refused', async (t) => {
  for (const asked of [1, 256, 511, 513, 8192, -512, 1.5, Number.NaN]) {
    t.match(refusal(image(8192n), asked), /512, 1024, 2048 or 4096 \[UNBD_USAGE\]/);
  }
  t.match(refusal(image(65536n, 65536)), /smallest request is 65536/);
  t.match(refusal(image(8192n, 1, 512), 4096), /largest request is 512/);
});
