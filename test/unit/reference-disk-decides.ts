/**
 * Claim: the reference disk of the conformance suite takes every right answer and no wrong one.
 * Method: answers of a disk, by hand.
 */
import t from 'tap';
import { ReferenceDisk } from '../support/reference-disk.ts';

const ONES = Buffer.alloc(1024, 1);

t.test('what was written is there, to the byte', async (t) => {
  const disk = new ReferenceDisk(Buffer.alloc(2048));
  disk.wrote(512, ONES);
  disk.check(0, Buffer.concat([Buffer.alloc(512), ONES, Buffer.alloc(512)]));
  const wrong = Buffer.from(ONES);
  wrong[700] = 2;
  t.throws(() => disk.check(512, wrong), /byte 1212 is 2 and not 1/);
});

t.test('what was discarded is as it was or zeroes, and stays as it was read', async (t) => {
  const disk = new ReferenceDisk(Buffer.alloc(2048, 1));
  disk.discarded({ offsetBytes: 512, lengthBytes: 1024 });
  const half = Buffer.alloc(512);
  t.throws(() => disk.check(512, Buffer.alloc(512, 3)), /is 3 and not 1/);
  disk.discarded({ offsetBytes: 512, lengthBytes: 1024 });
  disk.check(512, Buffer.concat([half, Buffer.alloc(512, 1)]));
  t.throws(() => disk.check(512, ONES), /byte 512 is 1 and not 0/);
  t.throws(() => disk.check(1024, half), /byte 1024 is 0 and not 1/);
  disk.discarded({ offsetBytes: 0, lengthBytes: 512 });
  disk.wrote(0, half);
  t.throws(() => disk.check(0, ONES.subarray(0, 512)), /byte 0 is 1 and not 0/);
});
