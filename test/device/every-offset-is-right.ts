/**
 * Claim: every read returns the bytes of its own offset, whatever its alignment and length.
 * Method: nbdkit's pattern, whose every 8 bytes are their own offset, read with direct I/O at
 * every alignment to a sector within two pages, in lengths around each limit that splits a
 * request.
 */
import assert from 'node:assert/strict';
import { constants } from 'node:fs';
import { isLeast } from '../support/amount.ts';
import { startNbdkit } from '../support/backends.ts';
import { KIB, MIB, patternBytes } from '../support/block.ts';
import { claim } from '../support/claim.ts';
import { DirectFile } from '../support/direct-file.ts';
import { connect } from '../support/product.ts';

const lengthsBytes = [512, 4 * KIB, 4 * KIB + 512, 64 * KIB, 128 * KIB - 512, MIB, MIB + 512];

claim('every read returns the bytes of its own offset', async (scope) => {
  // 5 GiB and a sector: offsets beyond 32 bits, and a last block that is no page.
  const sizeBytes = 5 * 1024 * MIB + 512;
  const backend = await startNbdkit(scope, ['pattern', String(sizeBytes)]);
  const device = await connect(scope, backend.target);
  const file = new DirectFile(device.path, constants.O_RDONLY);
  scope.defer(() => file.close());
  const check = (offsetBytes: number, lengthBytes: number): void => {
    const bytes = file.read(offsetBytes, lengthBytes);
    const wanted = patternBytes(offsetBytes, lengthBytes);
    assert(bytes.equals(wanted), `${lengthBytes} bytes at ${offsetBytes}`);
  };
  for (let sector = 0; sector < 16; sector += isLeast ? 15 : 1) {
    for (const lengthBytes of lengthsBytes) {
      check(sector * 512, lengthBytes);
      check(4 * 1024 * MIB - 3 * KIB + sector * 512, lengthBytes);
    }
  }
  for (const lengthBytes of lengthsBytes) check(sizeBytes - lengthBytes, lengthBytes);
  assert.throws(() => file.read(sizeBytes, 512), 'nothing lies behind the end');
  file.close();
  await device.disconnect();
});
