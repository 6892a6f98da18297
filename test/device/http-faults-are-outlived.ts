/**
 * Claim: whatever a web server, or the way to it, does wrong for a while, no read fails and no byte
 * is wrong; another object is FATAL, and no byte of it is seen.
 * Method: a proxy in front of nginx that spoils answers, cuts connections at every byte, holds one
 * up, or is away; checksums of the whole device, fio verify of what fio wrote into an image.
 */
import { isFull } from '../support/amount.ts';
import { claim, claimToo } from '../support/claim.ts';
import {
  assertFailsWhileWrong,
  assertHoldsUpNobody,
  assertNeverMixes,
  assertOutlivesOutage,
  assertReadThroughResets,
  assertServesThrough,
  type FaultyOrigin,
  MEBIBYTES,
  OUTAGE_MS,
  PATIENCE,
} from '../support/faulty-origin.ts';
import { writeChecked } from '../support/fio.ts';
import { type Fault, HttpFaultProxy, honest } from '../support/http-fault-proxy.ts';
import {
  everything,
  gzipped,
  inTurn,
  oneOf,
  PASSING_FAULTS,
  redirectThatExpires,
} from '../support/http-faults.ts';
import { assertRefused, connect, ublkNbd } from '../support/product.ts';
import type { Scope } from '../support/scope.ts';
import { makePattern, startNginx } from '../support/web-servers.ts';

async function proxied(scope: Scope, mebibytes = MEBIBYTES): Promise<FaultyOrigin> {
  const [folder, image] = await makePattern(scope, mebibytes);
  const web = await startNginx(scope, folder);
  const proxy = await HttpFaultProxy.start(scope, web.port);
  const connectIt = (...options: readonly string[]) =>
    connect(scope, proxy.url('pattern.img'), ...PATIENCE, ...options);
  return { proxy, image, connect: connectIt };
}

claim('an origin that does one thing after another wrong costs no read', async (scope) => {
  const faults = Object.values(PASSING_FAULTS);
  await assertServesThrough(await proxied(scope), inTurn(2, faults), faults.length);
});

// The claim above has them all.
for (const [what, fault] of isFull ? Object.entries(PASSING_FAULTS) : []) {
  claimToo(`it is outlived: ${what}`, async (scope) =>
    assertServesThrough(await proxied(scope), oneOf(3, fault)),
  );
}

claimToo('it is outlived: a redirect to an address that expires', async (scope) =>
  assertServesThrough(await proxied(scope), redirectThatExpires(3)),
);

claimToo('it is outlived: a connection that is reset, at any byte of an answer', async (scope) => {
  const origin = await proxied(scope, 64);
  await writeChecked(origin.image, '64m');
  await assertReadThroughResets(origin);
});

claimToo('a connection that stands still holds up nobody who needs it not', async (scope) =>
  assertHoldsUpNobody(scope, await proxied(scope)),
);

claimToo(
  'nobody waits for ever to connect to an origin that dies once it is open',
  async (scope) => {
    const { proxy } = await proxied(scope);
    const dying: Fault = async (asked) => {
      proxy.fault = () => new Promise(() => undefined);
      return honest(asked);
    };
    const url = proxy.url('pattern.img');
    const words = [...PATIENCE, '--reconnect-delay', '3600'];
    proxy.fault = dying;
    const outcome = await ublkNbd(['connect', url, ...words]);
    assertRefused(outcome, 'UNBD_BACKEND_TIMEOUT', 5, /no partition table .* was read in \d+ s/);
    proxy.fault = dying;
    const device = await connect(scope, url, ...words, '--no-partition-scan');
    await device.disconnect();
  },
);

claimToo(`an outage of ${OUTAGE_MS / 1000} s is a pause`, async (scope) =>
  assertOutlivesOutage(await proxied(scope)),
);

claimToo(
  'what is wrong for longer than --reconnect-delay is EIO until it is right',
  async (scope) => assertFailsWhileWrong(await proxied(scope), gzipped, /Content-Encoding is gzip/),
);

claimToo('another ETag in the middle is FATAL, and no byte of that object is seen', async (scope) =>
  assertNeverMixes(scope, await proxied(scope)),
);

claimToo('an origin that is wrong from the start is refused, and named', async (scope) => {
  const { proxy } = await proxied(scope, 1);
  for (const [fault, code, status, text] of [
    [gzipped, 'UNBD_BACKEND_PROTOCOL', 6, /Content-Encoding is gzip/],
    [everything, 'UNBD_EXPORT_UNUSABLE', 7, /sends no ranges/],
  ] as const) {
    proxy.fault = fault;
    const outcome = await ublkNbd(['connect', proxy.url('pattern.img')]);
    assertRefused(outcome, code, status, text);
  }
});
