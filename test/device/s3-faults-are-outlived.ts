/**
 * Claim: whatever S3, or the way to it, does wrong for a while, no read fails and no byte is wrong;
 * another object is FATAL, and no byte of it is seen.
 * Method: a proxy in front of a real radosgw that spoils answers, sheds load, cuts connections at
 * every byte, or is away; checksums of the whole device, fio verify of what fio wrote.
 */
import { readFileSync } from 'node:fs';
import { isBrief } from '../support/amount.ts';
import { MIB, makeImage } from '../support/block.ts';
import { claim, claimToo } from '../support/claim.ts';
import {
  assertFailsWhileWrong,
  assertHoldsUpNobody,
  assertNeverMixes,
  assertOutlivesOutage,
  assertReadThroughResets,
  assertServesThrough,
  CUTS,
  type FaultyOrigin,
  MEBIBYTES,
  OUTAGE_MS,
  PATIENCE,
} from '../support/faulty-origin.ts';
import { writeChecked } from '../support/fio.ts';
import { HttpFaultProxy } from '../support/http-fault-proxy.ts';
import { inTurn, PASSING_FAULTS, slowDown } from '../support/http-faults.ts';
import { connect } from '../support/product.ts';
import { SLOWLY, s3World } from '../support/s3-world.ts';
import type { Scope } from '../support/scope.ts';

/** What HTTP beneath it is tested with in every run. */
const claimInLongRuns: typeof claimToo = isBrief ? () => undefined : claimToo;
/** Of the image that fio writes. */
const LARGE_MEBIBYTES = 64;

/** `pattern.img` in a bucket of its own, through a proxy. */
async function faulty(scope: Scope, bucket: string, mebibytes = MEBIBYTES): Promise<FaultyOrigin> {
  const { radosgw, wordsAt } = await s3World(scope);
  const image = scope.path('pattern.img');
  await makeImage(image, mebibytes * MIB, 3);
  if (mebibytes === LARGE_MEBIBYTES) await writeChecked(image, `${LARGE_MEBIBYTES}m`);
  await radosgw.makeBucket(bucket);
  await radosgw.put(bucket, 'pattern.img', readFileSync(image));
  const proxy = await HttpFaultProxy.start(scope, Number(new URL(radosgw.endpoint).port));
  const at = [...wordsAt(proxy.url('')), ...PATIENCE];
  const connectIt = (...options: readonly string[]) =>
    connect(scope, `s3://${bucket}/pattern.img`, ...at, ...options);
  return { proxy, image, connect: connectIt };
}

claim(
  'a service that does one thing after another wrong costs no read',
  async (scope) => {
    // What is under S3 has met all of them.
    const others = Object.values(PASSING_FAULTS).filter((_, n) => !isBrief || n % 4 === 0);
    const faults = [slowDown, ...others];
    await assertServesThrough(await faulty(scope, 'wrong'), inTurn(2, faults), faults.length);
  },
  SLOWLY,
);

claimToo(
  'another ETag in the middle is FATAL, and no byte of that object is seen',
  async (scope) => assertNeverMixes(scope, await faulty(scope, 'mixed')),
  SLOWLY,
);

claimToo(
  'SlowDown without an end is EIO after --reconnect-delay, named, and over when it ends',
  async (scope) =>
    assertFailsWhileWrong(await faulty(scope, 'slow'), slowDown, /\(SlowDown\) answers 503/),
  SLOWLY,
);

claimInLongRuns(
  'a connection that stands still holds up nobody who needs it not',
  async (scope) => assertHoldsUpNobody(scope, await faulty(scope, 'still')),
  SLOWLY,
);

claimInLongRuns(
  'a connection that is reset, at any byte of an answer, costs no read',
  async (scope) =>
    assertReadThroughResets(await faulty(scope, 'resets', LARGE_MEBIBYTES), Math.min(CUTS, 200)),
  SLOWLY,
);

claimInLongRuns(
  `an outage of S3 for ${OUTAGE_MS / 1000} s is a pause`,
  async (scope) => assertOutlivesOutage(await faulty(scope, 'away')),
  SLOWLY,
);
